"""Every invocation of a tool, written as it happens: one JSON line at its start, more as things come to pass."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Call:
    """One invocation. Times are seconds since the epoch; `ended` and `exit_code` are None while it runs and
    if it was killed. `children` are pids a stubborn hang left. `note` says what the emulator objects to."""

    tool: str
    argv: Sequence[str]
    cwd: str
    pid: int
    started: float
    ended: float | None = None
    exit_code: int | None = None
    children: Sequence[int] = ()
    note: str = ""


class Entry:
    """Writes the lines of this process's own invocation."""

    def __init__(self, path: Path, tool: str, argv: Sequence[str]) -> None:
        self._path = path
        self._id = f"{os.getpid()}-{time.time_ns()}"
        self.write(tool=tool, argv=list(argv), cwd=os.getcwd(), pid=os.getpid(), started=time.time())

    def write(self, **facts: Any) -> None:
        # One write to a file opened for appending: lines of several processes do not mix.
        line = json.dumps({"id": self._id, **facts}) + "\n"
        with open(self._path, "ab", buffering=0) as file:
            file.write(line.encode())


def read(path: Path) -> list[Call]:
    """All invocations in order of their start."""
    facts: dict[str, dict[str, Any]] = {}
    # A last line without its end is being written.
    for line in path.read_text().split("\n")[:-1] if path.exists() else ():
        _merge(facts.setdefault((event := json.loads(line)).pop("id"), {}), event)
    return [Call(**call) for call in facts.values()]


def _merge(call: dict[str, Any], event: Mapping[str, Any]) -> None:
    call.update({name: value for name, value in event.items() if name != "child"})
    if "child" in event:
        call["children"] = (*call.get("children", ()), event["child"])
