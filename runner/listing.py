"""Listings: which points of its grids a sweep lists, network after network. Pure.

    Sweep --(grid)--> points --(exclude, one cell once a label)--> Listing --(plan)--> rows of the plan

A label is (model, objective). Points that resolve to the same parameters are one cell: listed once under
each label, measured once for all of them.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runner import catalogue, keys
from runner.axes import NONE, Axes, Points
from runner.catalogue import Model
from runner.cells import CELL_FIELDS, Cell, Target
from runner.grid import UNFIT, Grid, Numbers, Positions, Values, looked_up
from runner.lut import LutTable
from runner.spec import SweepSpec

# Points whose columns are made at a time: bounds memory whatever the size of a grid.
CHUNK = 50_000


@dataclass(frozen=True)
class Listing:
    """What a sweep lists of one network, in the grids' order. For each entry the number of its grid, its
    point there, the cell's id, whether it is the first to list that cell (the one that measures it), the
    number of the reason why it can't run (0: it can), and the number of its build: entries of one build
    share export and binary, `built` names an entry of each."""

    grids: Sequence[Grid]
    values: Values
    grid: Numbers
    point: Numbers
    ids: keys.Ids
    first: npt.NDArray[np.bool_]
    unfit: Numbers
    build: Numbers
    built: Positions

    def __len__(self) -> int:
        return len(self.grid)

    def columns(self, entries: Positions) -> dict[str, Numbers]:
        """`Grid.columns` of some entries."""
        made = {name: np.empty(len(entries), dtype=np.int32) for name in ("base", UNFIT, *CELL_FIELDS)}
        grid = self.grid[entries]
        for number in np.flatnonzero(np.bincount(grid)).tolist():
            chosen = grid == number
            for name, numbers in self.grids[number].columns(self.point[entries[chosen]]).items():
                made[name][chosen] = numbers
        return made

    def cells(self, entries: Positions) -> list[Cell]:
        """Entries as cells, for the few that are asked something by themselves."""
        numbers = self.columns(entries)
        fields = (looked_up(self.values[name], numbers[name]) for name in CELL_FIELDS)
        return [Cell(*values) for values in zip(*fields, strict=True)]


def expand(
    spec: SweepSpec, models: Sequence[Model], lut: LutTable, target: Target, unused: set[str] | None = None
) -> Iterator[Listing]:
    """The listings of a sweep, network after network.

    `models` come from `cells.models_of`, an ONNX file's with its digest for a source (two names of one
    file are one network). Paths of `exclude` entries that took nothing away are added to `unused` at the end.
    """
    filters = [_Filter(points) for points in spec.exclude]
    networks: dict[str, list[Model]] = {}
    for model in models:
        networks.setdefault(model.source, []).append(model)
    values: Values = defaultdict(dict)
    for alike in networks.values():
        grids = [
            Grid(spec, model, objective, lut.get((model.name, objective)), axes, target, values)
            for model in alike
            for axes, objectives in _wanted(spec, model)
            for objective in objectives
        ]
        if grids:
            yield _listing(grids, values, filters)
    if unused is not None:
        unused.update(f"spec.exclude[{index}]" for index, f in enumerate(filters) if not f.hits)


def _wanted(spec: SweepSpec, model: Model) -> Iterator[tuple[Axes, Sequence[str]]]:
    """Axes and objectives of every grid that names the model: the sweep's own, then the included ones."""
    if model.name in _names(spec.models):
        yield spec.grid, spec.objectives
    for points in spec.include:
        if model.name in _names(points.models or spec.models):
            yield points, points.objectives or spec.objectives


class _Points(NamedTuple):
    """Points that no filter takes away: grid, point, id, reason why it can't run, first point of its build."""

    grid: Numbers
    point: Numbers
    ids: keys.Ids
    unfit: Numbers
    build: Numbers


def _points(
    grids: Sequence[Grid], number: int, points: Positions, values: Values, filters: Sequence[_Filter]
) -> _Points:
    grid = grids[number]
    columns = grid.columns(points)
    kept = np.ones(len(points), dtype=bool)
    for each in filters:
        # Every filter is asked, not the first that matches: each counts its own hits.
        kept &= ~each.matches(grid, columns, values)
    points = points[kept]
    fields = {name: (list(values[name]), columns[name][kept]) for name in CELL_FIELDS}
    return _Points(
        np.full(len(points), number, dtype=np.int32),
        points.astype(np.int32),
        keys.identities("cell", fields),
        columns[UNFIT][kept],
        # Counted through all grids, so that no two share a number.
        (grid.builds(points) + sum(before.size for before in grids[:number])).astype(np.int32),
    )


def _every_point(grids: Sequence[Grid], values: Values, filters: Sequence[_Filter]) -> _Points:
    size = sum(grid.size for grid in grids)
    # Filled as they come, and not put together at the end: a million points are in memory once.
    grid, point, unfit, build = (np.empty(size, dtype=np.int32) for _ in _Points._fields[1:])
    ids = np.empty((size, keys.ID_HEX_DIGITS // 2), dtype=np.uint8)
    every = _Points(grid, point, ids, unfit, build)
    count = 0
    for number, its_size in enumerate(grid.size for grid in grids):
        for start in range(0, its_size, CHUNK):
            points = np.arange(start, min(start + CHUNK, its_size))
            some = _points(grids, number, points, values, filters)
            kept = slice(count, count + len(some.point))
            for name, part in some._asdict().items():
                getattr(every, name)[kept] = part
            count = kept.stop
    return _Points._make(column[:count] for column in every)


def _listing(grids: Sequence[Grid], values: Values, filters: Sequence[_Filter]) -> Listing:
    every = _every_point(grids, values, filters)
    labels = {label: n for n, label in enumerate({(g.model.name, g.objective): None for g in grids})}
    label = np.array([labels[g.model.name, g.objective] for g in grids])[every.grid]
    kept, first = _distinct(every.ids, label)
    if not kept.all():
        every, first = _Points._make(column[kept] for column in every), first[kept]
    build, built = _numbered(every.build)
    return Listing(grids, values, every.grid, every.point, every.ids, first, every.unfit, build, built)


def _numbered(values: Numbers) -> tuple[Numbers, Positions]:
    """For each value its rank among the distinct ones, and the first position of each of those: np.unique's
    inverse and index, without sorting."""
    there = np.bincount(values) > 0
    rank = (np.cumsum(there) - 1).astype(np.int32)[values]
    first = np.empty(np.count_nonzero(there), dtype=np.int64)
    first[rank[::-1]] = np.arange(len(values))[::-1]
    return rank, first


def _distinct(ids: keys.Ids, labels: Positions) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which rows are the first of their (id, label), and which the first of their id."""
    low, high = np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2).T

    def firsts(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        # Sorting is stable: the first of equal rows is the one that came first.
        order = np.lexsort(columns)
        differs = np.ones(len(order), dtype=bool)
        differs[1:] = np.logical_or.reduce([column[order][1:] != column[order][:-1] for column in columns])
        found = np.empty(len(order), dtype=bool)
        found[order] = differs
        return found

    first = firsts(low, high)
    return (first if first.all() else firsts(low, high, labels)), first


class _Filter:
    """One entry of `exclude`: a point leaves that has one of the values in every axis named."""

    def __init__(self, points: Points) -> None:
        self.hits = 0
        self.models = None if points.models is None else _names(points.models)
        self.objectives = points.objectives
        self.axes: Mapping[str, frozenset[Any]] = {
            name: frozenset(_as_cell_value(name, value) for value in excluded)
            for name in Axes.model_fields
            if (excluded := getattr(points, name)) is not None
        }

    def matches(self, grid: Grid, columns: Mapping[str, Numbers], values: Values) -> npt.NDArray[np.bool_]:
        taken = np.zeros(len(columns[UNFIT]), dtype=bool)
        if (self.models is None or grid.model.name in self.models) and (
            self.objectives is None or grid.objective in self.objectives
        ):
            taken[:] = True
            for name, excluded in self.axes.items():
                taken &= np.array([value in excluded for value in values[name]])[columns[name]]
        self.hits += int(taken.sum())
        return taken


def _as_cell_value(name: str, value: Any) -> Any:
    if name == "mos":
        return None if value == NONE else str(value)
    return None if name == "extra" and value == "" else value


@functools.lru_cache
def _names(references: tuple[str, ...]) -> frozenset[str]:
    return frozenset(model.name for reference in references for model in catalogue.resolve(reference))
