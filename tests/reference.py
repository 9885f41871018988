"""What a sweep lists, as a first version would find it: a loop over points and an object for each.

Slow and obvious: the oracle for `grid`, `listing` and `plan`, which do the same by column.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from runner import catalogue, cells, keys
from runner.axes import LUT, NONE, Axes, Points
from runner.backends import Backend
from runner.catalogue import Model
from runner.cells import CELL_FIELDS, Cell, Target, identify
from runner.grid import looked_up
from runner.listing import expand
from runner.lut import LutRow, LutTable, shipped
from runner.spec import Sweep, SweepSpec
from tests.samples import sweep

CARD = Target("qaic", frozenset({"hardware", "ols", "mos", "extra", "neighbours"}), ("fp16",), 14, "NSPs")
CPU = Target("onnxruntime", frozenset(), ("fp32",), 2, "physical cores")


class Entry(NamedTuple):
    """A cell listed under one label; `first` is False where another label of the network lists it before."""

    model: str
    objective: str
    cell: Cell
    id: str
    base: str
    unfit: str
    first: bool


def entries(spec: SweepSpec, models: Sequence[Model], lut: LutTable, target: Target) -> list[Entry]:
    """Every entry, in the grids' order."""
    networks: dict[str, list[Model]] = {}
    for model in models:
        networks.setdefault(model.source, []).append(model)
    found = []
    for alike in networks.values():
        labels: set[tuple[str, str, str]] = set()
        measured: set[str] = set()
        for model in alike:
            for axes, objective in _grids(spec, model):
                for cell, base in _points(spec, model, objective, lut, axes, target):
                    id_ = identify(cell)
                    label = (id_, model.name, objective)
                    if label in labels or any(_taken(p, model, objective, cell) for p in spec.exclude):
                        continue
                    unfit = _unfit(model, cell, target)
                    found.append(Entry(model.name, objective, cell, id_, base, unfit, id_ not in measured))
                    labels.add(label)
                    measured.add(id_)
    return found


def rows(
    sweep: Sweep,
    models: Sequence[Model],
    lut: LutTable,
    target: Target,
    backend: Backend,
    targets: Sequence[str],
) -> list[dict[str, Any]]:
    """The plan's rows in the grid's order, but for lot and position."""
    locations = {model.name: model.location for model in models}
    made = []
    for entry, on in itertools.product(entries(sweep.spec, models, lut, target), targets):
        cell, estimate = entry.cell, backend.estimate(entry.cell)
        export = cell.export_request.id
        binary = ""
        if backend.COMPILES_ON == "host":
            content = {"export": export, "flags": backend.compile_flags(cell)}
            binary = keys.identity("binary-request", content)
        row = lut.get((entry.model, entry.objective)) or LutRow()
        made.append(
            {
                "row": len(made),
                "slot": keys.slot_id(entry.id, on),
                "cell": entry.id,
                "target": on,
                "epoch": 0,
                "model": entry.model,
                "objective": entry.objective,
                "base": entry.base,
                "unfit": entry.unfit,
                "location": locations[entry.model],
                "export": export,
                "binary": binary,
                "estimate_s": estimate.overhead_s + cell.repeats * cell.seconds,
                "compile_estimate_s": estimate.compile_s,
                "lut_throughput_images_s": row.throughput_images_s,
                "lut_latency_p95_s": row.latency_p95_s,
                **{name: getattr(cell, name) for name in CELL_FIELDS},
            }
        )
    return made


def listed(target: Target = CARD, unused: set[str] | None = None, **spec: Any) -> list[Entry]:
    """What the product lists of `sweep(**spec)`, an object for each entry."""
    wanted = sweep(**spec).spec
    found = []
    for listing in expand(wanted, cells.models_of(wanted), shipped(), target, unused):
        every = np.arange(len(listing))
        columns = listing.columns(every)
        base, unfit = (looked_up(listing.values[name], columns[name]) for name in ("base", "unfit"))
        for n, cell in enumerate(listing.cells(every)):
            grid = listing.grids[listing.grid[n]]
            id_, first = listing.ids[n].tobytes().hex(), bool(listing.first[n])
            found.append(Entry(grid.model.name, grid.objective, cell, id_, base[n], unfit[n], first))
    return found


def _grids(spec: SweepSpec, model: Model) -> Iterator[tuple[Axes, str]]:
    grids = [(spec.grid, spec.models, spec.objectives)]
    grids += [(p, p.models or spec.models, p.objectives or spec.objectives) for p in spec.include]
    for axes, references, objectives in grids:
        if model.name in (found.name for r in references for found in catalogue.resolve(r)):
            yield from ((axes, objective) for objective in objectives)


def _points(
    spec: SweepSpec, model: Model, objective: str, lut: LutTable, axes: Axes, target: Target
) -> Iterator[tuple[Cell, str]]:
    row = lut.get((model.name, objective))
    base, used, from_file = cells.base_of(row, objective), target.parameters, model.kind == "onnx"
    overridden = any(getattr(axes, name) is not None for name in cells.TUNED)
    for batch, size, opset, precision, cores, instances, ols, mos, extra, set_size in itertools.product(
        axes.batch_size or [base.batch_size],
        axes.image_size or [model.image_size],
        [cells.FILE_OPSET] if from_file else axes.opset or [cells.DEFAULT_OPSET],
        axes.precision or target.precisions[:1],
        axes.cores or [base.cores],
        axes.instances or [base.instances],
        axes.ols or [base.ols],
        axes.mos or [LUT],
        axes.extra or [LUT],
        axes.set_size or [base.set_size],
    ):
        partition = cells.fit_partition(row, cores, mos, extra)
        cell = Cell(
            source=model.source,
            weights="file" if from_file else spec.weights,
            image_size=size,
            opset=opset,
            precision=precision,
            backend=target.backend,
            batch_size=batch,
            cores=cores,
            instances=cells.count_instances(cores, instances, target),
            set_size=set_size,
            seconds=spec.measure.seconds,
            repeats=spec.measure.repeats,
            hardware=spec.hardware if "hardware" in used else None,
            ols=ols if "ols" in used else None,
            mos=partition.mos if "mos" in used else None,
            extra=partition.extra if "extra" in used else None,
            neighbours=spec.measure.neighbours if "neighbours" in used else None,
        )
        partial = partition.dropped and ("mos" in used or "extra" in used)
        yield cell, cells.origin(row, partial, overridden)


def _unfit(model: Model, cell: Cell, target: Target) -> str:
    return (
        cells.cores_problem(cell.cores, cell.instances, target)
        or cells.precision_problem(cell.precision, target)
        or cells.partition_problem(cell.cores, cell.mos, cell.extra)
        or catalogue.size_problem(model, cell.image_size)
    )


def _taken(points: Points, model: Model, objective: str, cell: Cell) -> bool:
    names = [found.name for reference in points.models or () for found in catalogue.resolve(reference)]
    if (points.models and model.name not in names) or objective not in (points.objectives or [objective]):
        return False
    for name in Axes.model_fields:
        values = getattr(points, name)
        if name == "mos" and values:
            values = [None if value == NONE else str(value) for value in values]
        if name == "extra" and values:
            values = [value or None for value in values]
        if values is not None and getattr(cell, name) not in values:
            return False
    return True


_VALUES: dict[str, list[int | str]] = {
    "cores": [1, 2, 4, 7, 14],
    "instances": [1, 2, 7, "fill"],
    "batchSize": [1, 8, 13],
    "setSize": [1, 3],
    "ols": [1, 2],
    "mos": ["lut", "none", "cores", 1, 9, "1,7"],
    "extra": ["lut", "", "-sdp-cluster-sizes=7,7", "-x -sdp-cluster-sizes=1,1"],
    "imageSize": [16, 224, 299],
    "opset": [13, 17],
    "precision": ["fp16", "fp32"],
}
_MODELS = ["resnet50", "resnet-50", "vit_b_16", "mobilenet_v2", "hf:some/other", "onnx:/some/file.onnx"]
_OBJECTIVES = ["best-throughput", "best-latency", "balanced"]


def _some(values: Sequence[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def _axes(*, words: bool = True, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    values = {
        name: [value for value in values if words or value not in ("lut", "cores", "fill")]
        for name, values in _VALUES.items()
    }
    return st.fixed_dictionaries({}, optional={**{n: _some(v, 2) for n, v in values.items()}, **more})


SPECS = st.fixed_dictionaries(
    {"models": _some(_MODELS), "objectives": _some(_OBJECTIVES), "grid": _axes()},
    optional={
        "include": st.lists(_axes(models=_some(_MODELS, 1), objectives=_some(_OBJECTIVES, 1)), max_size=2),
        "exclude": st.lists(
            _axes(words=False, models=_some(_MODELS, 2), objectives=_some(_OBJECTIVES, 1)), max_size=2
        ),
        "weights": st.sampled_from(["random", "pretrained"]),
        "hardware": st.sampled_from(["std", "pro"]),
    },
)
