"""A grid: the cross product of one (model, objective)'s axes. Points by number, parameters by column. Pure.

A million points and no object a point: a parameter depends on few axes (`instances` on cores and
instances, `mos` on cores, mos and extra), so the rules of `cells` are asked once for each combination
of those, and points look the answer up. `listing` says which points of a grid a sweep lists.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runner import catalogue, cells
from runner.axes import LUT, Axes
from runner.catalogue import Model
from runner.cells import Target
from runner.lut import LutRow
from runner.spec import SweepSpec

Numbers = npt.NDArray[np.int32]
Positions = npt.NDArray[np.int64]

# Every value a column of the sweep has, numbered as it turns up: columns of all grids are comparable.
Values = defaultdict[str, dict[Any, int]]

Rule = tuple[tuple[str, ...], Callable[..., Any]]
# Axes that choose how a binary is run, not what is compiled.
_RUN_AXES = ("instances", "set_size")
UNFIT = "unfit"


class _Column(NamedTuple):
    """The number of a column's value for each combination of positions on the axes it depends on."""

    axes: tuple[str, ...]
    numbers: Numbers


class Grid:
    """The cross product of one (model, objective)'s axes; a point is its number in it, last axis fastest."""

    def __init__(
        self,
        spec: SweepSpec,
        model: Model,
        objective: str,
        row: LutRow | None,
        axes: Axes,
        target: Target,
        values: Values,
    ) -> None:
        self.model, self.objective, self.row, self._values = model, objective, row, values
        self._axes = _axes(model, objective, row, axes, target)
        self._shape = tuple(map(len, self._axes.values()))
        self.size = math.prod(self._shape)
        rules, causes = _rules(spec, model, row, axes, target)
        self._columns = {name: self._tabulate(name, rule) for name, rule in rules.items()}
        self._causes = [self._tabulate(UNFIT, rule) for rule in causes]

    def columns(self, points: npt.NDArray[np.integer[Any]]) -> dict[str, Numbers]:
        """For each cell field, `base` and `unfit`: numbers of the points' values. `unfit` is 0 where a point fits."""
        at = dict(zip(self._axes, np.unravel_index(points, self._shape), strict=True))

        def numbers(column: _Column) -> Numbers:
            found = column.numbers[tuple(at[name] for name in column.axes)]
            return found if column.axes else np.full(len(points), found, dtype=np.int32)

        made = {name: numbers(column) for name, column in self._columns.items()}
        unfit = np.zeros(len(points), dtype=np.int32)
        for column in self._causes:
            # The first cause in the rules' order counts.
            unfit = np.where(unfit == 0, numbers(column), unfit)
        return {**made, UNFIT: unfit}

    def builds(self, points: Positions) -> Positions:
        """For each point, the first one of the grid that needs the same binary."""
        at = zip(self._axes, np.unravel_index(points, self._shape), strict=True)
        compiled = [np.zeros_like(index) if name in _RUN_AXES else index for name, index in at]
        return np.asarray(np.ravel_multi_index(compiled, self._shape), dtype=np.int64)

    def _tabulate(self, name: str, rule: Rule) -> _Column:
        axes, function = rule
        known = self._values[name]
        if name == UNFIT:
            known.setdefault("", 0)
        combinations = itertools.product(*(self._axes[axis] for axis in axes))
        numbers = [known.setdefault(function(*combination), len(known)) for combination in combinations]
        shape = tuple(len(self._axes[axis]) for axis in axes)
        return _Column(axes, np.array(numbers, dtype=np.int32).reshape(shape))


def _axes(
    model: Model, objective: str, row: LutRow | None, axes: Axes, target: Target
) -> dict[str, Sequence[Any]]:
    """Values to try for each parameter, slowest axis first: the grid's, else the one of the base."""
    base = cells.base_of(row, objective)
    from_file = model.kind == catalogue.ONNX
    return {
        "batch_size": axes.batch_size or (base.batch_size,),
        "image_size": axes.image_size or (model.image_size,),
        "opset": (cells.FILE_OPSET,) if from_file else axes.opset or (cells.DEFAULT_OPSET,),
        "precision": axes.precision or target.precisions[:1],
        "cores": axes.cores or (base.cores,),
        "instances": axes.instances or (base.instances,),
        "ols": axes.ols or (base.ols,),
        "mos": axes.mos or (LUT,),
        "extra": axes.extra or (LUT,),
        "set_size": axes.set_size or (base.set_size,),
    }


def _rules(
    spec: SweepSpec, model: Model, row: LutRow | None, axes: Axes, target: Target
) -> tuple[dict[str, Rule], list[Rule]]:
    """What decides each cell field and `base`: the axes it depends on, and how. Then the causes of being unfit.

    `target.parameters` decides what counts: the rest stays None and out of the cell's identity.
    """
    used = target.parameters
    overridden = any(getattr(axes, name) is not None for name in cells.TUNED)
    partition = functools.cache(functools.partial(cells.fit_partition, row))

    def fixed(value: Any) -> Rule:
        return (), lambda: value

    def axis(name: str) -> Rule:
        return (name,), lambda value: value

    def if_used(name: str, rule: Rule) -> Rule:
        return rule if name in used else fixed(None)

    def instances(cores: int, instances: int | str) -> int:
        return cells.count_instances(cores, instances, target)

    def mos(cores: int, mos: int | str, extra: str) -> str | None:
        return partition(cores, mos, extra).mos if "mos" in used else None

    def extra(cores: int, mos: int | str, extra: str) -> str | None:
        return partition(cores, mos, extra).extra if "extra" in used else None

    def base(cores: int, mos: int | str, extra: str) -> str:
        partial = partition(cores, mos, extra).dropped and not used.isdisjoint({"mos", "extra"})
        return cells.origin(row, partial, overridden)

    on_partition = ("cores", "mos", "extra")
    columns: dict[str, Rule] = {
        "source": fixed(model.source),
        "weights": fixed(cells.FILE_WEIGHTS if model.kind == catalogue.ONNX else spec.weights),
        "image_size": axis("image_size"),
        "opset": axis("opset"),
        "precision": axis("precision"),
        "backend": fixed(target.backend),
        "batch_size": axis("batch_size"),
        "cores": axis("cores"),
        "instances": (("cores", "instances"), instances),
        "set_size": axis("set_size"),
        "seconds": fixed(spec.measure.seconds),
        "repeats": fixed(spec.measure.repeats),
        "hardware": if_used("hardware", fixed(spec.hardware)),
        "ols": if_used("ols", axis("ols")),
        "mos": (on_partition, mos),
        "extra": (on_partition, extra),
        "neighbours": if_used("neighbours", fixed(spec.measure.neighbours)),
        "base": (on_partition, base),
    }
    causes: list[Rule] = [
        (("cores", "instances"), lambda c, i: cells.cores_problem(c, instances(c, i), target)),
        (("precision",), lambda precision: cells.precision_problem(precision, target)),
        (on_partition, lambda c, m, e: cells.partition_problem(c, mos(c, m, e), extra(c, m, e))),
        (("image_size",), lambda size: catalogue.size_problem(model, size)),
    ]
    return columns, causes


def looked_up(known: Mapping[Any, int], numbers: Numbers) -> list[Any]:
    """The values behind numbers of a column."""
    values = list(known)
    return [values[number] for number in numbers.tolist()]
