"""`python -m benchmarks.soak [MINUTES] [SEED]`: a long sweep under random kills, on a store that misbehaves.

`aicsweep run` with the fake backend writes to a real S3 server through the tests' fault proxy. Once the minutes
are over nothing is disturbed any more and the last life ends the sweep. Then the table must equal that of an
undisturbed run, each slot be measured once, and no life's memory have grown. Exits 1 where that is not so.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import psutil
import yaml

from runner import engine, tables
from runner.store import Store, open_store
from runner.sweepfile import parse_sweep
from tests import s3_proxy, s3_server
from tests.cluster.oracle import results
from tests.s3_proxy import Asked, Do, Proxy
from tests.samples import place

CELLS_A_BATCH = 7 * 48
BATCHES = 30
SAMPLE_S = 0.5
# Mean seconds: of a life, between two faults of the store, and of a fault.
LIFE_S, CALM_S, FAULT_S = 50.0, 15.0, 6.0
# A life says something of memory while it measures, and once it has for so long; before and after it imports,
# reads the store, builds and merges.
WARM_UP_S, TELLING_S = 10.0, 20.0
GROWTH = 1.1
BARS = "▁▂▃▄▅▆▇█"

FAULTS: dict[str, tuple[float, Do]] = {
    # What share of calls is struck, and how.
    "away": (1.0, s3_proxy.cut),
    "503": (0.5, s3_proxy.answer(503, "SlowDown")),
    "slow": (1.0, s3_proxy.slow(0.2)),
    "reset": (0.5, s3_proxy.cut_body),
    "answers lost": (0.5, s3_proxy.lost),
    "twice": (0.5, s3_proxy.twice),
}


def document() -> dict[str, object]:
    grid = {"cores": [1, 2, 3, 4, 5, 7], "instances": [1, 2], "setSize": [1, 2, 3, 4]}
    spec = {
        "backend": "fake", "models": ["resnets"], "weights": "random", "objectives": ["best-throughput"],
        "grid": {**grid, "batchSize": list(range(1, BATCHES + 1))},
        "measure": {"seconds": 1, "repeats": 1},
        "limits": {"maxCells": 20_000, "maxDeviceHours": 10_000},
    }  # fmt: skip
    head = {"apiVersion": "aicsweep.dev/v1alpha1", "kind": "Sweep", "metadata": {"name": "soak"}}
    return {**head, "spec": spec}


@dataclass
class Trouble:
    """The store's faults, drawn ahead: (from, until, name) by the proxy's clock."""

    windows: list[tuple[float, float, str]]
    dice: random.Random
    struck: Counter[str] = field(default_factory=Counter)

    @classmethod
    def drawn(cls, begin_s: float, end_s: float, seed: int) -> Trouble:
        dice, windows, at_s = random.Random(seed), [], begin_s
        while (at_s := at_s + dice.expovariate(1 / CALM_S)) < end_s:
            until_s = min(end_s, at_s + dice.expovariate(1 / FAULT_S))
            windows.append((at_s, until_s, dice.choice(list(FAULTS))))
            at_s = until_s
        return cls(windows, dice)

    def __call__(self, asked: Asked) -> Do | None:
        for from_s, until_s, name in self.windows:
            share, do = FAULTS[name]
            if from_s <= asked.at_s < until_s and self.dice.random() < share:
                self.struck[name] += 1
                return do
        return None


@dataclass
class Life:
    """One process: how it ended, and its resident memory in MiB, all the time and while it measured."""

    seconds: float
    end: str
    mib: list[float]
    measuring: list[float]

    @property
    def warm(self) -> list[float]:
        return self.measuring[int(WARM_UP_S / SAMPLE_S) :]

    def growth(self) -> float | None:
        """Of its memory from the first half, once warm, to the last tenth; None where it was too short to tell."""
        warm = self.warm
        if len(warm) * SAMPLE_S < TELLING_S:
            return None
        return statistics.median(warm[-max(1, len(warm) // 10) :]) / statistics.median(warm[: len(warm) // 2])

    def line(self, number: int) -> str:
        warm = self.warm or self.mib or [0.0]
        figures = (warm[0], statistics.median(warm), sorted(warm)[int(0.95 * (len(warm) - 1))], warm[-1])
        grown = self.growth()
        share = "" if grown is None else f"{grown:5.2f}"
        cells = "".join(f"{figure:8.0f}" for figure in figures)
        return f"{number:>4}{self.seconds:>8.0f}  {self.end:<8}{cells}  {share:>5}  {sparkline(self.mib)}"


def sparkline(values: list[float], width: int = 30) -> str:
    """Bars from 0 to the largest value."""
    step = max(1, -(-len(values) // width))
    parts = [max(values[i : i + step]) for i in range(0, len(values), step)]
    top = max(parts, default=1.0) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int(part / top * len(BARS)))] for part in parts)


def live(command: list[str], environment: dict[str, str], log: Path, limit_s: float | None) -> Life:
    """Run until it ends, or is killed after `limit_s`."""
    began_s = time.monotonic()
    mib: list[float] = []
    measuring: list[float] = []
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=file)
    try:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            mib.append(watched.memory_info().rss / 2**20)
            if log.read_bytes()[-1000:].rpartition(b"\nmeasure ")[2].count(b"\n") == 1:
                measuring.append(mib[-1])
            if limit_s is not None and time.monotonic() - began_s >= limit_s:
                process.kill()
            try:
                process.wait(SAMPLE_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        process.kill()
        process.wait()
    end = "killed" if process.returncode == -9 else f"exit {process.returncode}"
    return Life(time.monotonic() - began_s, end, mib, measuring)


def soak(minutes: float, seed: int, folder: Path, proxy: Proxy, bucket: str) -> bool:
    dice = random.Random(seed)
    cells = CELLS_A_BATCH * BATCHES
    # Something is left to measure when the minutes are over.
    pause_s = minutes * 60 / cells
    wanted = document()
    file, log, url = folder / "soak.yaml", folder / "log", f"s3://{bucket}/soak"
    file.write_text(yaml.safe_dump(wanted))
    environment = {
        **os.environ, "AICSWEEP_FAKE": json.dumps({"sleep_s": pause_s}), "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")])),
    }  # fmt: skip
    program = "from runner.cli import main; main()"
    command = [sys.executable, "-c", program, "run", str(file), "--store", url]
    begin_s = proxy.seconds()
    end_s = begin_s + minutes * 60
    proxy.script = trouble = Trouble.drawn(begin_s, end_s, seed)
    print(
        f"{cells:,} cells, {minutes:g} min, seed {seed}; {pause_s * 1000:.0f} ms a cell; resident memory in MiB\n"
        f"{'life':>4}{'s':>8}  {'end':<8}{'start':>8}{'median':>8}{'p95':>8}{'end':>8}  {'grown':>5}  from 0 s on",
        flush=True,
    )
    lives: list[Life] = []
    while not lives or lives[-1].end in ("killed", "exit 3"):
        left_s = end_s - proxy.seconds()
        limit_s = None if left_s <= 0 else min(left_s + 1, 10 + dice.expovariate(1 / LIFE_S))
        lives.append(live(command, environment, log, limit_s))
        print(lives[-1].line(len(lives)), flush=True)
        if left_s <= 0 and lives[-1].end != "exit 0":
            break
    home = open_store(url).at("sweeps/local/default/soak/1")
    return judged(lives, trouble, wanted, home, folder, log)


def judged(
    lives: list[Life], trouble: Trouble, wanted: dict[str, object], home: Store, folder: Path, log: Path
) -> bool:
    """Print what was found; whether all of it is as it must be."""
    struck = ", ".join(f"{name} {count:,}" for name, count in sorted(trouble.struck.items()))
    print(f"store: {len(trouble.windows)} faults, calls struck: {struck}")
    if lives[-1].end != "exit 0":
        print(f"the last life ended with {lives[-1].end}:\n{log.read_text()[-2000:]}")
        return False
    slots = Counter(engine.read_results(home).table["slot"].to_pylist())
    table, _ = tables.read_current(home)
    calm = engine.run(place(folder / "calm", parse_sweep(yaml.safe_dump(wanted).encode()))).table
    same = results(table) == results(calm)
    doubled = sum(slots.values()) - len(slots)
    grown = [found for life in lives if (found := life.growth()) is not None]
    # Of no life that measured long enough nothing is known.
    flat = bool(grown) and all(found <= GROWTH for found in grown)
    print(
        f"{len(lives)} lives, {sum(life.end == 'killed' for life in lives)} killed\n"
        f"rows {table.num_rows:,}, equal to an undisturbed run: {'yes' if same else 'NO'}\n"
        f"results {sum(slots.values()):,} of {len(slots):,} slots, doubled {doubled}\n"
        f"memory of {len(grown)} lives that measured long enough: grown at most x {max(grown, default=1):.2f}"
        f" ({'flat' if flat else 'NOT FLAT'})"
    )
    return same and flat and not doubled


def main(arguments: list[str]) -> int:
    minutes = float(arguments[0]) if arguments else 20.0
    seed = int(arguments[1]) if len(arguments) > 1 else random.SystemRandom().randrange(10**6)
    with tempfile.TemporaryDirectory(prefix="aicsweep-soak-") as name:
        folder = Path(name)
        with (
            s3_server.running(folder / "s3") as server,
            s3_proxy.proxying(server.endpoint) as proxy,
        ):
            for variable in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[variable]
            os.environ.update({**server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint})
            os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
            boto3.client("s3").create_bucket(Bucket="soak")
            return 0 if soak(minutes, seed, folder, proxy, "soak") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
