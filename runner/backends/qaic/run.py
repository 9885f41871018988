"""The run stage: one invocation of the vendor's runner becomes one window.

Used by sweeps and by the vendor-compatible command alike, which differ only in the paths they give.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner import process, scratch
from runner.backends import Window
from runner.backends.qaic import flags, latency, verdicts
from runner.backends.qaic.flags import RunnerInputs
from runner.backends.qaic.latency import Latencies
from runner.backends.qaic.verdicts import Missing
from runner.cells import Cell
from runner.errors import PointFailed
from runner.stats import LITTLES_LAW_RANGE

# Over --time: load, activate, unload take up to 2.5 s in the vendor's logs, reading and writing files more.
MARGIN_S = 120.0
TRUNCATED = "latency-truncated"
# With fewer rounds of all that is in flight, filling and draining the queues rules the figure.
LITTLES_LAW_ROUNDS = 10
# The runner prints three decimals.
RATE_TOLERANCE = 1e-3
_LINE = re.compile(r"InferenceCnt (\d+) TotalDuration (\d+)us BatchSize (\d+) Inf/Sec ([\d.]+)")


@dataclass(frozen=True)
class Statistics:
    """The runner's own line. `inferences` counts batches of all instances, `throughput_images_s` is
    recomputed from count and duration."""

    line: str
    inferences: int
    duration_s: float
    batch: int
    throughput_images_s: float


@dataclass(frozen=True)
class Invocation:
    """What one call of the runner observed; `seconds` is its wall time, loading included."""

    argv: tuple[str, ...]
    seconds: float
    statistics: Statistics
    latencies: Latencies
    warnings: Sequence[str]

    @property
    def window(self) -> Window:
        figures = self.statistics
        return Window(figures.throughput_images_s, self.latencies.round_trip_s, figures.duration_s)


def invoke(
    runner: Path,
    cell: Cell,
    *,
    binary_dir: str,
    out_dir: str,
    qid: str,
    inputs: RunnerInputs,
    cwd: Path,
    log: Path,
    limit_s: float | None = None,
    device_was_free: bool | None = None,
    echo: process.Echo | None = None,
) -> Invocation:
    """Run the program in `binary_dir` for the cell's seconds on card `qid`; paths may be relative to `cwd`.

    `out_dir` is emptied first: files of an earlier run would be taken for this one's. `limit_s` is by default
    the cell's seconds and a margin. Raises PointFailed, Infeasible, BadInput or Infrastructure.
    """
    out = scratch.fresh(cwd / out_dir)
    limit_s = limit_s or flags.whole_seconds(cell.seconds) + MARGIN_S
    argv = flags.run_argv(runner, cell, binary_dir=binary_dir, out_dir=out_dir, qid=qid, inputs=inputs)
    ended = process.run(argv, limit_s=limit_s, cwd=cwd, log=log, echo=echo)
    figures = statistics_of(ended.stdout, cell.batch_size)
    latencies = latency.read(out, cell.instances)
    missing = next((part for part in (figures, latencies) if isinstance(part, Missing)), None)
    error = verdicts.judge(
        "run", cell, ended, limit_s=limit_s, missing=missing, device_was_free=device_was_free
    )
    if error is not None:
        raise error
    assert isinstance(figures, Statistics)
    assert isinstance(latencies, Latencies)
    warnings = list(latencies.warnings)
    in_flight = cell.instances * cell.set_size
    if max(latencies.rows) >= flags.SAMPLES or sum(latencies.rows) < figures.inferences - in_flight:
        warnings.append(TRUNCATED)
    return Invocation(ended.argv, ended.seconds, figures, latencies, warnings)


def statistics_of(stdout: str, batch: int) -> Statistics | Missing:
    """The runner's statistics (the last line counts, as in the vendor's parser), or what is wrong with them."""
    found = list(_LINE.finditer(stdout))
    if not found:
        return Missing("no-statistics", "the runner printed no statistics line that can be read")
    last = found[-1]
    count, duration_us, said_batch = int(last[1]), int(last[2]), int(last[3])
    if count == 0 or duration_us == 0:
        return Missing("zero-inferences", f"the runner did no inference: {last[0]}")
    if said_batch != batch:
        return Missing(
            "wrong-batch", f"the program was compiled for statistics of batch {said_batch}, not {batch}"
        )
    rate = count * 1e6 / duration_us * batch
    try:
        printed = float(last[4])
    except ValueError:
        printed = float("nan")
    if not abs(printed - rate) <= RATE_TOLERANCE * max(rate, 1.0):
        return Missing("no-statistics", f"{last[0]}: {rate:.3f} would follow from count and duration")
    return Statistics(last[0], count, duration_us * 1e-6, batch, rate)


def littles_law(invocations: Sequence[Invocation], cell: Cell) -> PointFailed | None:
    """The consistency of throughput and latency: instances x set size x batch = images/s x mean latency.

    None also where the runs are too short to tell.
    """
    latencies = np.concatenate([one.latencies.round_trip_s for one in invocations])
    in_flight = cell.instances * cell.set_size
    rate = float(np.mean([one.statistics.throughput_images_s for one in invocations]))
    ratio = float(latencies.mean()) * rate / (in_flight * cell.batch_size)
    low, high = LITTLES_LAW_RANGE
    if low <= ratio <= high or len(latencies) < LITTLES_LAW_ROUNDS * in_flight * len(invocations):
        return None
    return PointFailed(
        "run",
        "littles-law",
        f"{rate:.1f} images/s at {latencies.mean() * 1e3:.3f} ms mean latency are {ratio:.2f} times the"
        f" {cell.instances} x {cell.set_size} x {cell.batch_size} images in flight",
    )
