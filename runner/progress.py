"""Progress for people: bars with ETA on a terminal, one plain line a step elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Lines:
    """Plain lines, for pipes and logs. Steps may come from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def stage(self, name: str, total: int, estimate_s: float) -> None:
        """See `engine.Reporter`."""
        self._name, self._total, self._done = name, total, 0
        about = f", about {duration(estimate_s)}" if estimate_s else ""
        self.say(f"{name}: {total} to do{about}")

    def step(self, label: str, outcome: str, estimate_s: float) -> None:
        with self._lock:
            self._done += 1
            self.say(f"{self._name} {self._done}/{self._total}  {label}: {outcome}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bars(Lines):
    """One bar a stage. The ETA comes from the estimates, scaled by how they held so far."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int, estimate_s: float) -> None:
        self._total, self._done = total, 0
        self._estimate_s, self._spent_s, self._began = estimate_s, 0.0, time.monotonic()
        eta = f"about {duration(estimate_s)}" if estimate_s else ""
        self._task = self._progress.add_task(name, total=total, eta=eta)

    def step(self, label: str, outcome: str, estimate_s: float) -> None:
        assert self._task is not None
        with self._lock:
            self._done += 1
            self._spent_s += estimate_s
            eta = self._eta()
        self._progress.update(self._task, advance=1, eta=eta)
        self._progress.console.print(f"  {label}: {outcome}", highlight=False, markup=False)

    def _eta(self) -> str:
        """By the estimates, scaled by how they held so far; without estimates by the pace of steps."""
        elapsed_s = time.monotonic() - self._began
        if self._estimate_s and self._spent_s:
            left_s = max(0.0, self._estimate_s - self._spent_s) * elapsed_s / self._spent_s
        else:
            left_s = (self._total - self._done) * elapsed_s / self._done
        return f"{duration(left_s)} left"

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)


def reporter() -> Lines:
    """Bars on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
