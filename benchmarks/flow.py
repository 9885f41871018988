"""`make bench`: each speed as a ratio to a naive reference measured in the same run.

The reference does what a first version would: a dict and a JSON object a cell, json and pandas to merge.
Every case runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIZES = {"small": 20_000, "100k": 100_000, "1m": 1_000_000}
AXES = {"cores": [1, 2, 4, 7], "instances": [1, 2], "batchSize": list(range(1, 33)), "ols": [1, 2, 4]}


def _sweep(cells: int):  # type: ignore[no-untyped-def]
    from tests.samples import sweep

    per_set_size = 53 * 768
    sets = max(1, -(-cells // per_set_size))
    limits = {"maxCells": 1_000_000 if cells > 100_000 else 2_000_000 // 2, "maxDeviceHours": 1_000_000}
    grid = {**AXES, "setSize": list(range(1, min(sets, 24) + 1))}
    return sweep(models=["all"], grid=grid, limits=limits)


def plan(cells: int) -> int:
    from runner import admission, backends, lut

    made = admission.make_plan(_sweep(cells), backends.load("fake"), lut.shipped())
    return int(made.table.num_rows)


def plan_naive(cells: int) -> int:
    """One pydantic model and one JSON object a cell, kept in a list."""
    import hashlib
    import itertools

    from pydantic import create_model

    wanted = _sweep(cells).spec
    names = ["model", *AXES, "setSize"]
    model = create_model("NaiveCell", **dict.fromkeys(names, (str | int, ...)))  # type: ignore[call-overload]
    from runner.catalogue import MODELS

    grid = wanted.grid
    axes = [list(MODELS), grid.cores, grid.instances, grid.batch_size, grid.ols, grid.set_size]
    kept = []
    for values in itertools.product(*axes):
        cell = model(**dict(zip(names, values, strict=True)))
        text = json.dumps(cell.model_dump(), sort_keys=True)
        kept.append((hashlib.sha256(text.encode()).hexdigest(), cell, text))
    json.dumps([text for _, _, text in kept])
    return len(kept)


def zero_work(cells: int) -> int:
    from runner import engine
    from tests.samples import place, sweep

    wanted = sweep(
        models=["resnets"],
        grid={
            "cores": [1, 2, 7],
            "instances": [1, 2],
            "batchSize": list(range(1, 33)),
            "setSize": [1, 2, 3, 4],
        },
        measure={"seconds": 1, "repeats": 1},
    )
    with tempfile.TemporaryDirectory() as folder:
        return engine.run(place(Path(folder), wanted)).measured


def _case(function: Callable[[int], int], cells: int, pipe) -> None:  # type: ignore[no-untyped-def]
    began = time.process_time()
    done = function(cells)
    pipe.send((done, time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def _run(function: Callable[[int], int], cells: int) -> tuple[int, float, float]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_case, args=(function, cells, there))
    process.start()
    answer: tuple[int, float, float] = here.recv()
    process.join()
    return answer


def main() -> None:
    size = sys.argv[1] if len(sys.argv) > 1 else "100k"
    cells = SIZES[size]
    print(f"{'case':<12}{'rows':>10}{'CPU s':>9}{'rows/s':>10}{'peak MiB':>10}")
    found = {}
    for name, function in (("plan", plan), ("plan naive", plan_naive), ("zero work", zero_work)):
        rows, seconds, peak = _run(function, cells)
        found[name] = rows / seconds
        print(f"{name:<12}{rows:>10,}{seconds:>9.1f}{rows / seconds:>10,.0f}{peak:>10,.0f}", flush=True)
    print(f"plan against naive: {found['plan'] / found['plan naive']:.2f}x")
