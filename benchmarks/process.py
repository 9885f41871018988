"""A function measured in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """What `count` items took: wall and CPU seconds (all threads, ended children), and the peak of memory."""

    count: int
    wall_s: float
    cpu_s: float
    peak_mib: float

    @property
    def us(self) -> float:
        """CPU microseconds of one item."""
        return self.cpu_s / self.count * 1e6


def measured(function: str, count: int, folder: Path) -> Measured:
    """Measure `module:function` of this package, called with about `count` items to do and a folder."""
    command = [sys.executable, "-m", "benchmarks.process", function, str(count), str(folder)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return Measured(**json.loads(answer))


def _main(function: str, count: str, folder: str) -> None:
    module, _, name = function.partition(":")
    # First of all, as in the product: it says how Arrow is to be loaded.
    importlib.import_module("runner")
    work = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    wall_s, cpu_s = time.perf_counter(), _cpu_s()
    done = work(int(count), Path(folder))
    wall_s, cpu_s = time.perf_counter() - wall_s, _cpu_s() - cpu_s
    print(json.dumps(asdict(Measured(done, wall_s, cpu_s, _peak_mib()))))


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak_mib() -> float:
    # Not ru_maxrss: it counts what the parent held when it forked.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    _main(*sys.argv[1:])
