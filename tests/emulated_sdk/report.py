"""What the runner reports: the statistics on its standard output, and a latency file for each activation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import latency_file
from .qpc import Program
from .styles import Style

_ROW_LIMIT = 100


@dataclass(frozen=True)
class Observed:
    """One run: its rate, inferences (batches) of all instances together and the time they took."""

    images_s: float
    count: int
    duration_us: int
    seed: int


def print_statistics(fault: str, program: Program, seen: Observed) -> None:
    if fault == "no-statistics":
        return
    count, duration_us = seen.count, seen.duration_us
    rate = f"{count * 1e6 / duration_us * program.stats_batch:.3f}"
    if fault == "zero-inferences":
        count, rate = 0, "0.000"
    elif fault == "nan-statistics":
        rate = "nan"
    elif fault == "wrong-rate":
        rate = f"{float(rate) * 1.5:.3f}"
    line = (
        f"InferenceCnt {count} TotalDuration {duration_us}us BatchSize {program.stats_batch} Inf/Sec {rate}"
    )
    if fault == "garbage-statistics":
        line = "InferenceCnt \x00\xff TotalDuration us BatchSize Inf/Sec #####"
    if fault == "repeated-statistics":
        print(f" ---- Stats ----\n{line.replace(rate, '1.000')}")
    print(f" ---- Stats ----\n{line}", flush=True)
    if program.statistics:
        mean_us = duration_us / count if count else 0.0
        print(
            "Device Performance: \nMetric,          Avg,           Min,           Max,           Std            "
        )
        print(f"ExecTimeUs,      {mean_us:<15.3f},{mean_us:<15.3f},{mean_us:<15.3f},{0:<15.3f}", flush=True)


def write_latencies(
    fault: str, style: Style, program: Program, options: dict[str, Any], seen: Observed
) -> None:
    import numpy as np

    instances, set_size = options["aic-num-of-activations"], options["set-size"]
    count = 0 if fault == "zero-inferences" else seen.count
    mean_us = instances * set_size * program.batch / seen.images_s * 1e6
    mean_us *= 3 if fault == "wrong-latency" else 1
    skipped = options["aic-profiling-start-iter"]
    skipped += int(options["aic-profiling-start-delay"] / 1000 * seen.images_s / program.batch / instances)
    limit = min(options["aic-profiling-num-samples"], _ROW_LIMIT if fault == "row-limit" else 10**9)
    random = np.random.default_rng(seen.seed)
    last = instances - 1
    for activation in range(instances + (fault == "extra-latency")):
        if fault == "no-latency" and activation == last:
            continue
        # The first activations take what does not divide.
        done = (count + instances - 1 - activation % instances) // instances
        rows = latency_file.round_trips_us(mean_us, set_size, done, random)[skipped:][:limit]
        folder = options["aic-profiling-out-dir"]
        name = f"{folder}/aic-profiling-program-{activation + style.latency_from}-latency.txt"
        path = Path(name)
        if path.exists():
            print(f"Deleting previous file: {name}")
        print(f"Writing file:{name}")
        latency_file.write(path, style, rows, set_size=set_size, first=skipped, device=program.statistics)
        if fault == "truncated-latency" and activation == last:
            text = path.read_text()
            path.write_text(text[: len(text) * 2 // 3].rstrip("\n")[:-5])
