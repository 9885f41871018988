"""Cells: one point of a sweep with every parameter resolved, and the rules that resolve it. Pure.

    points of (model, objective) = base x grid  +  base x every include  -  every exclude
    base  = the look-up row of (model, objective), else the objective's default
    field = grid value, else the row's, else the default

The rules are here, for one value at a time; `grid` applies them to all points of a sweep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from runner import catalogue
from runner.axes import BALANCED, BEST_LATENCY, BEST_THROUGHPUT, CORES, FILL, LUT, NONE, Axes
from runner.catalogue import Model
from runner.keys import ExportRequest, cell_id
from runner.lut import LutRow
from runner.spec import SweepSpec


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

    @property
    def export_request(self) -> ExportRequest:
        return ExportRequest(self.source, self.weights, self.image_size, self.opset)


CELL_FIELDS: Sequence[str] = tuple(field.name for field in fields(Cell))


def identify(cell: Cell) -> str:
    """The cell's id. A parameter that is None is left out, so that a field added later changes no old id."""
    content = {name: value for name in CELL_FIELDS if (value := getattr(cell, name)) is not None}
    return cell_id(content)


class Target(NamedTuple):
    """What a backend says of itself and of the device, as far as expansion depends on it."""

    backend: str
    parameters: frozenset[str]
    precisions: Sequence[str]
    cores: int
    cores_reason: str


@dataclass(frozen=True)
class Base:
    """Parameters of (model, objective) before the grid, and where they come from (`lut`, `default`)."""

    row: LutRow | None
    batch_size: int
    cores: int
    instances: int
    ols: int
    set_size: int


# The seed's defaults (cores 2, instances 7, ols 1, set size 10); it is silent on the batch,
# which the vendor's script takes by objective.
DEFAULT_BATCH = {BEST_THROUGHPUT: 14, BEST_LATENCY: 1, BALANCED: 1}
DEFAULT_CORES, DEFAULT_INSTANCES, DEFAULT_OLS, DEFAULT_SET_SIZE, DEFAULT_OPSET = 2, 7, 1, 10, 13

# What an ONNX file brings by itself and a Sweep can't choose.
FILE_WEIGHTS, FILE_OPSET = "file", 0


def base_of(row: LutRow | None, objective: str) -> Base:
    """Field by field: the row's value where it has one, else the default."""
    found = row or LutRow()
    return Base(
        row=row,
        batch_size=found.batch_size or DEFAULT_BATCH[objective],
        cores=found.cores or DEFAULT_CORES,
        instances=found.instances or DEFAULT_INSTANCES,
        ols=found.ols or DEFAULT_OLS,
        set_size=found.set_size or DEFAULT_SET_SIZE,
    )


def models_of(spec: SweepSpec) -> list[Model]:
    """Every model of the sweep in order, those that only an `include` names at the end."""
    references = [*spec.models, *(r for points in spec.include for r in points.models or ())]
    return list({model.source: model for r in references for model in catalogue.resolve(r)}.values())


def count_points(spec: SweepSpec) -> int:
    """Points before duplicates, unfit and excluded ones leave: bounds the work of expanding."""
    grid_models = _sources(spec.models)
    total = len(grid_models) * len(spec.objectives) * _size(spec.grid)
    for points in spec.include:
        count = len(_sources(points.models) if points.models else grid_models)
        total += count * len(points.objectives or spec.objectives) * _size(points)
    return total


# Parameters the look-up row tunes; a grid value for one of them makes the point the grid's, not the row's.
TUNED = ("batch_size", "cores", "instances", "ols", "mos", "extra", "set_size")


def count_instances(cores: int, instances: int | str, target: Target) -> int:
    """Instances of a point; `fill` is as many as fit beside each other, at least one."""
    return max(1, target.cores // cores) if instances == FILL else int(instances)


class Partition(NamedTuple):
    """How a point is spread over cores: MOS and extra flags, and whether some of the row's were dropped."""

    mos: str | None
    extra: str | None
    dropped: bool


def fit_partition(row: LutRow | None, cores: int, mos: int | str, extra: str) -> Partition:
    """MOS and extra flags of a point. Those inherited from the row that don't fit `cores` are dropped:
    MOS is at most the cores, sizes of SDP clusters add up to them, and a MOS list belongs to SDP clusters."""
    row, dropped = row or LutRow(), False
    text = row.extra if extra == LUT else extra or None
    if extra == LUT and text and (sizes := cluster_sizes(text)) and sum(sizes) != cores:
        text = " ".join(flag for flag in text.split() if not flag.startswith(SDP)) or None
        dropped = True
    if mos == LUT:
        value = row.mos
        unfit = value and (_largest(value) > cores or ("," in value and SDP not in (text or "")))
        if unfit:
            value, dropped = None, True
    else:
        value = None if mos == NONE else str(cores) if mos == CORES else str(mos)
    return Partition(value, text, dropped)


def origin(row: LutRow | None, partial: bool, overridden: bool) -> str:
    """Where a point's parameters come from: `default`, `lut`, `lut-partial` (some dropped) or `grid`."""
    if row is None:
        return "default"
    return "lut-partial" if partial else "grid" if overridden else "lut"


# Why a point can't run, a function for each cause: a sentence, or an empty text.


def cores_problem(cores: int, instances: int, target: Target) -> str:
    """More cores than the target has."""
    needed = cores * instances
    if needed <= target.cores:
        return ""
    return (
        f"{cores} cores x {instances} instances need {needed} cores, "
        f"there are {target.cores} ({target.cores_reason})"
    )


def precision_problem(precision: str, target: Target) -> str:
    """A number format the backend does not measure."""
    if precision in target.precisions:
        return ""
    return f"{target.backend} measures {', '.join(target.precisions)}, not {precision}"


def partition_problem(cores: int, mos: str | None, extra: str | None) -> str:
    """A MOS or SDP clusters (the user's own: a row's are dropped) that don't fit the cores."""
    if mos and _largest(mos) > cores:
        return f"mos {mos} is more than {cores} cores"
    if extra and (sizes := cluster_sizes(extra)) and sum(sizes) != cores:
        return f"-sdp-cluster-sizes={','.join(map(str, sizes))} adds up to {sum(sizes)}, not {cores} cores"
    return ""


SDP = "-sdp-cluster-sizes="


def cluster_sizes(extra: str) -> list[int]:
    """Cores of each cluster of single-device partitioning that the compiler flags `extra` ask for."""
    for flag in extra.split():
        if flag.startswith(SDP):
            parts = flag.removeprefix(SDP).split(",")
            return [int(part) for part in parts if part.isdigit()]
    return []


def _largest(mos: str) -> int:
    return max(map(int, mos.split(",")))


def _sources(references: Sequence[str]) -> set[str]:
    return {model.source for reference in references for model in catalogue.resolve(reference)}


def _size(axes: Axes) -> int:
    return math.prod(len(values) for name in Axes.model_fields if (values := getattr(axes, name)) is not None)
