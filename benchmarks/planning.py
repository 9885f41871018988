"""Planning: a sweep's cells with their ids, packed into lots, as a file; then the overview of it."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

from runner import admission, backends, lut, overview
from runner.catalogue import MODELS
from runner.cells import DEFAULT_OPSET, Cell
from runner.plan import Plan
from runner.spec import Sweep
from tests.samples import sweep

AXES = {"cores": [1, 2, 4, 7], "instances": [1, 2], "batchSize": list(range(1, 33)), "ols": [1, 2, 4]}
LIMITS = {"maxCells": 1_000_000, "maxDeviceHours": 1_000_000}
NSPS = 14


def a_sweep(count: int) -> Sweep:
    """All models, and set sizes for about `count` cells: 40,704 for each."""
    cells = len(MODELS) * 768
    sets = min(-(-count // cells), LIMITS["maxCells"] // cells)
    grid = {**AXES, "setSize": list(range(1, sets + 1))}
    return sweep(models=["all"], weights="random", grid=grid, limits=LIMITS)


def planned(wanted: Sweep) -> Plan:
    return admission.make_plan(wanted, backends.load("fake"), lut.shipped())


def plan(count: int, folder: Path) -> int:
    return _plan(a_sweep(count), folder)


def plan_one_network(count: int, folder: Path) -> int:
    """All cells rivals of one model, 2 in 5 of them unfit: nothing of a network is written before its end."""
    grid = {**AXES, "cores": list(range(1, 15)), "imageSize": list(range(224, 234))}
    grid["setSize"] = list(range(1, count // (14 * 2 * 32 * 3 * 10) + 1))
    return _plan(sweep(models=["resnet50"], weights="random", grid=grid, limits=LIMITS), folder)


def _plan(wanted: Sweep, folder: Path) -> int:
    made = planned(wanted)
    (folder / "plan.parquet").write_bytes(made.data)
    assert overview.as_text(overview.of_plan(made))
    return made.rows


def naive(count: int, folder: Path) -> int:
    """A dict and a JSON text for each cell, all kept in a list."""
    spec = a_sweep(count).spec
    backend = backends.load("fake")
    grid = spec.grid
    axes = (grid.cores, grid.instances, grid.batch_size, grid.ols, grid.set_size)
    entries = []
    for model in MODELS.values():
        row = lut.shipped().get((model.name, "best-throughput"), lut.LutRow())
        for cores, instances, batch, ols, set_size in itertools.product(*axes):
            cell = {
                "source": model.source,
                "weights": spec.weights,
                "image_size": model.image_size,
                "opset": DEFAULT_OPSET,
                "precision": "fp16",
                "backend": spec.backend,
                "batch_size": batch,
                "cores": cores,
                "instances": instances,
                "set_size": set_size,
                "seconds": spec.measure.seconds,
                "repeats": spec.measure.repeats,
                "hardware": spec.hardware,
                "ols": ols,
                "mos": row.mos,
                "extra": row.extra,
                "neighbours": spec.measure.neighbours,
            }
            id_ = _hash(cell)
            export = _hash({name: cell[name] for name in ("source", "weights", "image_size", "opset")})
            entries.append(
                {
                    **cell,
                    "model": model.name,
                    "id": id_,
                    "slot": _hash({"cell": id_, "target": "any"}),
                    "export": export,
                    "binary": _hash([export, backend.compile_flags(Cell(**cell))]),
                    "estimate_s": spec.measure.repeats * spec.measure.seconds + 30,
                    "unfit": cores * instances > NSPS,
                }
            )
    _pack(entries, spec.limits.lot_minutes * 60)
    (folder / "plan.json").write_text(json.dumps(entries))
    assert len({entry["binary"] for entry in entries}) > 1
    return len(entries)


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _pack(entries: list[dict[str, Any]], limit_s: float) -> None:
    lot, used_s = 0, 0.0
    for _, rivals in itertools.groupby(entries, key=lambda entry: entry["model"]):
        todo = [entry for entry in rivals if not entry["unfit"]]
        random.Random(1).shuffle(todo)
        for entry in todo:
            if used_s and used_s + entry["estimate_s"] > limit_s:
                lot, used_s = lot + 1, 0.0
            entry["lot"] = lot
            used_s += entry["estimate_s"]
