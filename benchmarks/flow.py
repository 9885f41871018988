"""The whole flow with measurements that take no time: what aicsweep itself costs a cell.

From the sweep to the published table in a folder store, in a process of its own: planning, exports, a
compile for eight cells, a result and 64 latency samples a cell, statistics, merge. Counted are modules that
are imported on first use (scipy.special: about half a second of CPU), whatever the number of cells; starting
Python and importing what this file names (pandas among it) is not.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from runner import admission, backends, engine, lut, stats
from runner.backends import ExportReport, fake
from runner.spec import Sweep
from tests.samples import place, sweep

GRID = {"cores": [1, 2, 3, 4, 5, 7], "instances": [1, 2], "setSize": [1, 2, 3, 4]}


def a_sweep(count: int) -> Sweep:
    """About `count` cells of the seven ResNets, eight to a binary."""
    grid = {**GRID, "batchSize": list(range(1, max(1, round(count / (7 * 48))) + 1))}
    measure, limits = {"seconds": 1, "repeats": 1}, {"maxCells": 2 * count, "maxDeviceHours": count}
    return sweep(models=["resnets"], grid=grid, weights="random", measure=measure, limits=limits)


def zero_work(count: int, folder: Path) -> int:
    return engine.run(place(folder, a_sweep(count))).measured


def naive(count: int, folder: Path) -> int:
    """A loop over the cells; a folder for each with its binary, its samples and its result as JSON; pandas at
    the end. Nothing that was there before is looked for, nothing is written so that a crash can't spoil it."""
    tasks = admission.make_plan(a_sweep(count), backends.load("fake"), lut.shipped()).tasks()
    (device,) = fake.devices("all")
    with fake.open_exporter() as exporter, fake.open_bench(device) as bench:
        for task in tasks:
            at = folder / task.slot
            at.mkdir()
            report: ExportReport = exporter.export(task.cell.export_request, at)
            fake.compile(task.cell, at / "model.onnx", at)
            measurement = bench.measure(task.cell, at / "model.onnx", at, report)
            samples = [window.latencies_s.tolist() for window in measurement.windows]
            (at / "samples.json").write_text(json.dumps(samples))
            summary = asdict(stats.summarise(measurement.windows))
            (at / "result.json").write_text(json.dumps({"slot": task.slot, **asdict(task.cell), **summary}))
    results = [json.loads(path.read_text()) for path in folder.glob("*/result.json")]
    table = pd.DataFrame(results)
    table["rank"] = table.groupby("source")["throughput_images_s"].rank(ascending=False)
    table.to_csv(folder / "table.csv")
    return len(table)
