"""Progress for people: bars with ETA on a terminal, one plain line a step elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@dataclass
class _Stage:
    """How far one stage is: steps, and seconds of its estimate. `bar` is that of a terminal."""

    total: int
    estimate_s: float
    began: float
    done: int = 0
    spent_s: float = 0.0
    bar: TaskID | None = None

    def eta(self) -> str:
        """By the estimates, scaled by how they held so far; without estimates by the pace of steps."""
        elapsed_s = time.monotonic() - self.began
        if self.estimate_s and self.spent_s:
            left_s = max(0.0, self.estimate_s - self.spent_s) * elapsed_s / self.spent_s
        else:
            left_s = (self.total - self.done) * elapsed_s / self.done
        return f"{duration(left_s)} left"


class Lines:
    """Plain lines, for pipes and logs. Stages run beside each other, steps come from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def stage(self, name: str, total: int, estimate_s: float) -> None:
        """See `workplace.Reporter`."""
        self._stages[name] = _Stage(total, estimate_s, time.monotonic())
        about = f", about {duration(estimate_s)}" if estimate_s else ""
        self.say(f"{name}: {total} to do{about}")

    def step(self, stage: str, label: str, outcome: str, estimate_s: float) -> None:
        with self._lock:
            its = self._stages[stage]
            its.done += 1
            self.say(f"{stage} {its.done}/{its.total}  {label}: {outcome}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bars(Lines):
    """One bar a stage."""

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

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int, estimate_s: float) -> None:
        eta = f"about {duration(estimate_s)}" if estimate_s else ""
        bar = self._progress.add_task(name, total=total, eta=eta)
        self._stages[name] = _Stage(total, estimate_s, time.monotonic(), bar=bar)

    def step(self, stage: str, label: str, outcome: str, estimate_s: float) -> None:
        its = self._stages[stage]
        assert its.bar is not None
        with self._lock:
            its.done += 1
            its.spent_s += estimate_s
            eta = its.eta()
        self._progress.update(its.bar, advance=1, eta=eta)
        self._progress.console.print(f"  {label}: {outcome}", highlight=False, markup=False)

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
