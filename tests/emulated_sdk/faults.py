"""Faults a test asks for: which tool, which calls, how often, what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

# How long a tool that hangs does so, if nobody ends it: a bound for tests that go wrong.
HANG_S = 300

KINDS = {
    "compile": {
        "unsupported-operator": "exit 255, the texts of an operator the compiler lacks",
        "invalid-option": "exit 255, an option unknown to this SDK",
        "schema-error": "exit 255, a JSON argument of another schema version",
        "killed": "ends by signal 9, as by the host's out-of-memory killer",
        "no-binary": "exit 0 without programqpc.bin",
        "empty-binary": "exit 0 with an empty programqpc.bin",
        "hang": "never ends; SIGTERM ends it",
        "stubborn-hang": "never ends; it and its child ignore SIGTERM",
    },
    "runner": {
        "memory-exhausted": "exit 1, activation fails for want of memory",
        "device-busy": "exit 1, queue full",
        "timed-out": "exit 1, the driver timed out",
        "card-gone": "exit 1 in mid-run; the card's status is Error from then on",
        "unknown-error": "exit 1 with a text nobody has seen",
        "crash": "ends by signal 11",
        "hang": "never ends; SIGTERM ends it",
        "stubborn-hang": "never ends; it and its child ignore SIGTERM; their NSPs stay in use",
        "no-statistics": "exit 0, no statistics line",
        "garbage-statistics": "exit 0, a statistics line that can't be read",
        "zero-inferences": "exit 0, InferenceCnt 0 and empty latency files",
        "nan-statistics": "exit 0, Inf/Sec nan",
        "repeated-statistics": "exit 0, two statistics lines, the last one right",
        "wrong-rate": "exit 0, Inf/Sec does not follow from count and duration",
        "no-latency": "exit 0, no latency file of the last activation",
        "extra-latency": "exit 0, one latency file too many",
        "truncated-latency": "exit 0, the last activation's file breaks off within a row",
        "row-limit": "exit 0, latency files stop at 100 rows whatever was asked",
        "wrong-latency": "exit 0, latencies three times what throughput allows",
        "wrong-output": "exit 0, the output holds other numbers",
        "nan-output": "exit 0, the output is NaN",
        "short-output": "exit 0, half of the output is missing",
        "no-output": "exit 0, no output file",
    },
    "util": {
        "fail": "exit 255, the runtime platform is not there",
        "garbage": "exit 0, text that is no answer",
        "hang": "never ends; SIGTERM ends it",
        "stubborn-hang": "never ends; it and its child ignore SIGTERM",
    },
}  # fmt: skip

FACTS = {
    "compile": {"model", "graph", "cores", "batch", "ols", "mos", "precision"},
    "runner": {"model", "graph", "cores", "batch", "ols", "mos", "precision",
               "instances", "set_size", "qid", "seconds"},
    "util": {"qid"},
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Calls of `tool` (compile, runner, util) that match go wrong as `kind` says (`KINDS`).

    `where`: facts that must be equal to a value or one of a list; `model` need only contain it (the path
    that was compiled), `qid` of util means among those asked. `argv`: a text that the arguments, joined by
    blanks, contain. The first `after` matching calls pass, then `times` go wrong (None: all).
    """

    tool: str
    kind: str
    where: Mapping[str, Any] = field(default_factory=dict)
    argv: str = ""
    times: int | None = None
    after: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS[self.tool]:
            raise ValueError(f"{self.tool} has no fault {self.kind!r}; it has {', '.join(KINDS[self.tool])}")
        if unknown := set(self.where) - FACTS[self.tool]:
            raise ValueError(
                f"{self.tool} knows no {unknown}; it knows {', '.join(sorted(FACTS[self.tool]))}"
            )

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def matches(self, tool: str, facts: Mapping[str, Any], argv: Sequence[str]) -> bool:
        return (
            tool == self.tool
            and self.argv in " ".join(argv)
            and all(_agrees(name, facts[name], wanted) for name, wanted in self.where.items())
        )


def _agrees(name: str, actual: Any, wanted: Any) -> bool:
    allowed = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    if name == "model":
        return any(text in actual for text in allowed)
    shown = actual if isinstance(actual, list) else [actual]
    return any(value in allowed for value in shown)


def hang(*, stubborn: bool, keep: Sequence[int] = (), tell: Callable[[int], None]) -> NoReturn:
    """Do nothing until ended. A stubborn one ignores SIGTERM, as does a child of it that holds the file
    descriptors `keep` and the output streams; `tell` gets the child's pid."""
    if stubborn:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # What is ignored stays ignored across exec.
        tell(subprocess.Popen(["sleep", str(HANG_S)], pass_fds=keep).pid)
    time.sleep(HANG_S)
    sys.exit("EMULATED tool hung for its whole time and nobody ended it")


def die(number: signal.Signals) -> NoReturn:
    """End this process by a signal."""
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    raise AssertionError("unreachable")
