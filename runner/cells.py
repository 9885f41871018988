"""Cells: a spec becomes points, every parameter resolved. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """One point with every parameter resolved; None where a parameter means nothing to the backend.

    `batch_size` images per inference; `cores` per instance; `instances` loaded copies side by
    side; `set_size` inferences in flight per instance; `extra` compiler flags as one shell-quoted
    text. `seconds` and `repeats` of the measuring windows are part of what is measured.
    """

    source: str
    weights: str
    image_size: int
    opset: int
    precision: str
    backend: str
    batch_size: int
    cores: int
    instances: int
    set_size: int
    seconds: float
    repeats: int
    hardware: str | None = None
    ols: int | None = None
    mos: str | None = None
    extra: str | None = None
    neighbours: str | None = None
