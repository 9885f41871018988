"""Every error of aicsweep on one page. The class says what happens next, the text who has to do what.

    AicsweepError
    |- BadInput           the user's input is wrong: exit 2, every problem at once
    |- Infrastructure     store, host or device is: exit 3, the work stays wanted
    |  `- StoreError
    |- PointFailed        this point's verdict: recorded as a row, the sweep goes on
    |  `- Infeasible      ... a property of the point: never tried again
    `- Interrupted        Ctrl-C or SIGTERM: exit 130 (a pod 143), what was measured is kept

Foreign errors are translated once, at the border where they appear, `from` their cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_SLOTS_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INFRASTRUCTURE = 3
EXIT_INTERRUPTED = 130
# A pod that was asked to end: 128 + SIGTERM.
EXIT_TERMINATED = 143


class AicsweepError(Exception):
    """Base of all errors that are meant for the person at the terminal. `remedy` says what to do."""

    exit_code = EXIT_INFRASTRUCTURE

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with an input: `path` in the YAML (`spec.grid.cores[2]`), what, and what would be right."""

    path: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text}\n    {self.remedy}" if self.remedy else text


def counted(count: int, noun: str) -> str:
    """`1 slot`, `2 slots`; for nouns that take an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class BadInput(AicsweepError):
    """The input can't be used. Holds all of its problems, sorted by path, never just the first."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, problems: Sequence[Problem], *, source: str = "") -> None:
        self.problems = tuple(sorted(set(problems)))
        self.source = source
        count = len(self.problems)
        head = f"{source}: " if source else ""
        head += counted(count, "problem")
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[object, ...]:
        return (BadInput, (self.problems,))


# A reason of which no host is to blame.
STORE = "store"
# ... or an error of our own.
INTERNAL = "internal"


class Infrastructure(AicsweepError):
    """Something around the measurement is missing or broken; the slot is still wanted.

    `reason` is a short fixed word for tables and filters (`device-busy`, `device-hot`, ...).
    """

    def __init__(self, message: str, *, remedy: str = "", reason: str = "infrastructure") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class StoreError(Infrastructure):
    """The object store can't be reached, read or written."""

    def __init__(self, message: str, *, remedy: str = "", reason: str = STORE) -> None:
        super().__init__(message, remedy=remedy, reason=reason)


class PointFailed(AicsweepError):
    """One point's verdict in one stage (`export`, `compile`, `run`); becomes a row with this reason.

    `reason` is a short fixed word for tables and filters (`wrong-output`, `time-limit`, ...),
    `message` the sentence, `log_tail` the end of the tool's own output.
    """

    exit_code = EXIT_SLOTS_FAILED
    verdict = "failed"

    def __init__(
        self, stage: str, reason: str, message: str, *, remedy: str = "", log_tail: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.stage = stage
        self.reason = reason
        self.log_tail = log_tail

    def __reduce__(self) -> tuple[object, ...]:
        # Crosses process borders (export and instance workers); keyword arguments are lost by default.
        return (_rebuild, (type(self), self.stage, self.reason, self.message, self.remedy, self.log_tail))


class Infeasible(PointFailed):
    """The point can't work with these flags on this hardware, whoever tries; not tried again."""

    verdict = "infeasible"


class Interrupted(AicsweepError):
    """The user or the platform asked us to stop; results so far are in the store."""

    exit_code = EXIT_INTERRUPTED


def _rebuild(
    kind: type[PointFailed], stage: str, reason: str, message: str, remedy: str, log_tail: str
) -> PointFailed:
    return kind(stage, reason, message, remedy=remedy, log_tail=log_tail)
