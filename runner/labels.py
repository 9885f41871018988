"""A cell, a binary, a result in one line, for people who watch. Pure."""

from __future__ import annotations

from runner.cells import Cell
from runner.result import OK, Result


def cell_label(model: str, cell: Cell) -> str:
    return f"{model} batch {cell.batch_size}, {cell.cores}x{cell.instances}, set {cell.set_size}"


def binary_label(model: str, cell: Cell) -> str:
    tuning = f", mos {cell.mos}" if cell.mos else ""
    return f"{model} batch {cell.batch_size}, {cell.cores} cores, ols {cell.ols}{tuning}"


def outcome(result: Result) -> str:
    """One line on a result: the number, or what went wrong."""
    if result.status != OK:
        return f"{result.status}: {result.stage} {result.reason}"
    return f"{result.throughput_images_s:.1f} images/s"
