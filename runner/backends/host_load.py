"""How much others used the CPUs that a measurement runs on; read at the edges of windows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

# A window is contended when others took more than this share of the cores measured on.
BUSY_SHARE = 0.10
# The kernel counts in ticks of 10 ms; two of them are noise, which matters for windows under a second.
TICK_NOISE_S = 0.02


@dataclass(frozen=True)
class Reading:
    """Cumulated CPU seconds at `at_s`: on the watched CPUs by anyone, and by the watched processes."""

    at_s: float
    busy_s: float
    own_s: float


class HostLoad:
    """Watches `cpus` (all hardware threads of the cores in use) and the processes that measure on them.

    /proc/stat rather than psutil's list per CPU: the list drops the numbers, so that with an
    offline CPU every later index is wrong. Stolen time counts as others' load.
    """

    def __init__(self, cpus: Iterable[int], pids: Sequence[int], proc: Path = Path("/proc")) -> None:
        self._labels = {f"cpu{cpu}" for cpu in cpus}
        self._processes = [psutil.Process(pid) for pid in pids]
        self._stat = proc / "stat"

    def read(self) -> Reading:
        try:
            own = [process.cpu_times() for process in self._processes]
        except psutil.Error:
            # A worker died; whoever waits for its answer says so.
            own = []
        return Reading(
            at_s=time.monotonic(),
            busy_s=busy_seconds(self._stat.read_text(), self._labels),
            own_s=sum(times.user + times.system for times in own),
        )


def busy_seconds(stat: str, labels: set[str]) -> float:
    """CPU seconds that the CPUs called `labels` did not idle, from the text of /proc/stat (proc(5))."""
    ticks = 0
    for line in stat.splitlines():
        label, *fields = line.split()
        if label in labels:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def others_share(before: Reading, after: Reading, *, cores: int) -> float:
    """Share of `cores` that others used between two readings, less what the clock's ticks can't resolve."""
    others = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return max(0.0, others - TICK_NOISE_S * cores) / (cores * (after.at_s - before.at_s))
