"""Cells: a spec becomes points, every parameter resolved, each with the reason if it can't run. Pure.

    points of (model, objective) = base x grid  +  base x every include  -  every exclude
    base  = the look-up row of (model, objective), else the objective's default
    field = grid value, else the row's, else the default

Two points that resolve to the same parameters are one cell; the objective is a label.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from runner import catalogue
from runner.catalogue import Model
from runner.keys import ExportRequest, cell_id
from runner.lut import LutRow, LutTable
from runner.spec import (
    BALANCED,
    BEST_LATENCY,
    BEST_THROUGHPUT,
    CORES,
    LUT,
    NONE,
    OBJECTIVES,
    Axes,
    Points,
    SweepSpec,
)


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


class Entry(NamedTuple):
    """A cell listed under one objective. `base` says where its parameters come from, `unfit` why it
    can't run; `first` is False where another objective of the model lists the same cell before."""

    objective: str
    cell: Cell
    id: str
    base: str
    unfit: str
    first: bool = True


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


# Entries of one chunk: bounds memory whatever the size of a model's grid.
CHUNK = 20_000


def expand(
    spec: SweepSpec, models: Sequence[Model], lut: LutTable, target: Target, unused: set[str] | None = None
) -> Iterator[tuple[Model, list[Entry]]]:
    """Chunks of entries, model after model; (objective, cell) at most once, in the grid's order.

    `models` come from `models_of`, an ONNX file's with its digest for a source. Paths of
    `exclude` entries that took nothing away are added to `unused` at the end.
    """
    filters = [_Filter(points) for points in spec.exclude]
    for model, grids in _grids(spec, models):
        # Which objectives list a cell already, as bits. Bytes, not hex: a million ids are 50 MB less.
        listed: dict[bytes, int] = {}
        entries: list[Entry] = []
        for axes, objectives in grids:
            for objective in objectives:
                base = base_of(lut.get((model.name, objective)), objective)
                bit = 1 << OBJECTIVES.index(objective)
                for entry in _Resolver(spec, model, objective, base, target).entries(axes):
                    key = bytes.fromhex(entry.id)
                    before = listed.get(key, 0)
                    if before & bit or _excluded(filters, model, objective, entry.cell):
                        continue
                    listed[key] = before | bit
                    entries.append(entry._replace(first=False) if before else entry)
                    if len(entries) == CHUNK:
                        yield model, entries
                        entries = []
        if entries:
            yield model, entries
    if unused is not None:
        unused.update(f"spec.exclude[{index}]" for index, f in enumerate(filters) if not f.hits)


def _grids(
    spec: SweepSpec, models: Sequence[Model]
) -> Iterator[tuple[Model, list[tuple[Axes, Sequence[str]]]]]:
    grid_names = _names(spec.models)
    included = [(points, _names(points.models) if points.models else grid_names) for points in spec.include]
    for model in models:
        grids: list[tuple[Axes, Sequence[str]]] = []
        if model.name in grid_names:
            grids.append((spec.grid, spec.objectives))
        grids += [(p, p.objectives or spec.objectives) for p, names in included if model.name in names]
        yield model, grids


class _Resolver:
    """Turns the values of one (model, objective)'s axes into entries."""

    def __init__(self, spec: SweepSpec, model: Model, objective: str, base: Base, target: Target) -> None:
        self.model, self.objective, self.base, self.target = model, objective, base, target
        from_file = model.kind == catalogue.ONNX
        self.from_file = from_file
        # `parameters` decides what counts: the rest stays None and out of the cell's identity.
        used = target.parameters
        self.hardware = spec.hardware if "hardware" in used else None
        self.neighbours = spec.measure.neighbours if "neighbours" in used else None
        self.uses_ols, self.uses_mos, self.uses_extra = "ols" in used, "mos" in used, "extra" in used
        self.weights = FILE_WEIGHTS if from_file else spec.weights
        self.seconds, self.repeats = spec.measure.seconds, spec.measure.repeats

    def entries(self, axes: Axes) -> Iterator[Entry]:
        base, row = self.base, self.base.row or LutRow()
        overridden = any(getattr(axes, name) is not None for name in _TUNED)
        for (
            batch,
            image_size,
            opset,
            precision,
            cores,
            instances,
            ols,
            mos,
            extra,
            set_size,
        ) in itertools.product(
            axes.batch_size or (base.batch_size,),
            axes.image_size or (self.model.image_size,),
            (FILE_OPSET,) if self.from_file else axes.opset or (DEFAULT_OPSET,),
            axes.precision or self.target.precisions[:1],
            axes.cores or (base.cores,),
            axes.instances or (base.instances,),
            axes.ols or (base.ols,),
            axes.mos or (LUT,),
            axes.extra or (LUT,),
            axes.set_size or (base.set_size,),
        ):
            mos_text, extra_text, dropped = _fit_partition(row, cores, mos, extra)
            count = max(1, self.target.cores // cores) if instances == "fill" else int(instances)
            cell = Cell(
                self.model.source,
                self.weights,
                image_size,
                opset,
                precision,
                self.target.backend,
                batch,
                cores,
                count,
                set_size,
                self.seconds,
                self.repeats,
                self.hardware,
                ols if self.uses_ols else None,
                mos_text if self.uses_mos else None,
                extra_text if self.uses_extra else None,
                self.neighbours,
            )
            partial = dropped and (self.uses_mos or self.uses_extra)
            source = (
                "default"
                if base.row is None
                else "lut-partial"
                if partial
                else "grid"
                if overridden
                else "lut"
            )
            yield Entry(self.objective, cell, identify(cell), source, self._unfit(cell))

    def _unfit(self, cell: Cell) -> str:
        needed = cell.cores * cell.instances
        if needed > self.target.cores:
            return (
                f"{cell.cores} cores x {cell.instances} instances need {needed} cores, "
                f"there are {self.target.cores} ({self.target.cores_reason})"
            )
        if cell.precision not in self.target.precisions:
            return f"{self.target.backend} measures {', '.join(self.target.precisions)}, not {cell.precision}"
        if cell.mos and max(map(int, cell.mos.split(","))) > cell.cores:
            return f"mos {cell.mos} is more than {cell.cores} cores"
        if cell.extra and (sizes := _cluster_sizes(cell.extra)) and sum(sizes) != cell.cores:
            return f"-sdp-cluster-sizes={','.join(map(str, sizes))} adds up to {sum(sizes)}, not {cell.cores} cores"
        return catalogue.size_problem(self.model, cell.image_size)


# Parameters the look-up row tunes; a grid value for one of them makes the point the grid's, not the row's.
_TUNED = ("batch_size", "cores", "instances", "ols", "mos", "extra", "set_size")


def _fit_partition(
    row: LutRow, cores: int, mos: int | str, extra: str
) -> tuple[str | None, str | None, bool]:
    """MOS and extra flags of a point. Those inherited from the row that don't fit `cores` are dropped
    (third value True): MOS is at most the cores, sizes of SDP clusters add up to them, and a MOS list
    belongs to SDP clusters."""
    dropped = False
    text = row.extra if extra == LUT else extra or None
    if extra == LUT and text and (sizes := _cluster_sizes(text)) and sum(sizes) != cores:
        text = " ".join(flag for flag in text.split() if not flag.startswith(_SDP)) or None
        dropped = True
    if mos == LUT:
        value = row.mos
        unfit = value and (
            max(map(int, value.split(","))) > cores or ("," in value and _SDP not in (text or ""))
        )
        if unfit:
            value, dropped = None, True
    else:
        value = None if mos == NONE else str(cores) if mos == CORES else str(mos)
    return value, text, dropped


_SDP = "-sdp-cluster-sizes="


def _cluster_sizes(extra: str) -> list[int]:
    for flag in extra.split():
        if flag.startswith(_SDP):
            parts = flag.removeprefix(_SDP).split(",")
            return [int(part) for part in parts if part.isdigit()]
    return []


class _Filter:
    """One entry of `exclude`: a point leaves that has one of the values in every axis named."""

    def __init__(self, points: Points) -> None:
        self.hits = 0
        self.names = None if points.models is None else _names(points.models)
        self.objectives = points.objectives
        self.axes: dict[str, frozenset[Any]] = {
            name: frozenset(_as_cell_value(name, value) for value in values)
            for name in Axes.model_fields
            if (values := getattr(points, name)) is not None
        }

    def matches(self, model: Model, objective: str, cell: Cell) -> bool:
        if self.names is not None and model.name not in self.names:
            return False
        if self.objectives is not None and objective not in self.objectives:
            return False
        if not all(getattr(cell, name) in values for name, values in self.axes.items()):
            return False
        self.hits += 1
        return True


def _excluded(filters: Sequence[_Filter], model: Model, objective: str, cell: Cell) -> bool:
    # Every filter is asked, not the first that matches: each counts its own hits.
    matches = [f.matches(model, objective, cell) for f in filters]
    return any(matches)


def _as_cell_value(name: str, value: Any) -> Any:
    if name == "mos":
        return None if value == NONE else str(value)
    return None if name == "extra" and value == "" else value


def _names(references: Sequence[str]) -> set[str]:
    return {model.name for reference in references for model in catalogue.resolve(reference)}


def _sources(references: Sequence[str]) -> set[str]:
    return {model.source for reference in references for model in catalogue.resolve(reference)}


def _size(axes: Axes) -> int:
    return math.prod(len(values) for name in Axes.model_fields if (values := getattr(axes, name)) is not None)
