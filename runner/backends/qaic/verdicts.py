"""What a tool's end means: the table of known failures, and the one function that reads it. Pure.

    own time limit -> signal -> known text in the last 64 KiB of both streams -> exit code -> what is missing

A text decides only which failure it is, never whether there is one: tools print errors that they
recover from. An unknown failure is `failed`, with the log's tail.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runner.cells import Cell
from runner.errors import AicsweepError, BadInput, Infeasible, Infrastructure, PointFailed, Problem
from runner.process import Ended
from runner.scratch import disk_error

Stage = Literal["compile", "run"]


@dataclass(frozen=True)
class Known:
    """A text seen in the vendor's tools, the class of error it means, and what to say and do about it."""

    pattern: re.Pattern[str]
    kind: type[AicsweepError]
    reason: str
    message: str
    remedy: str = ""


def _known(pattern: str, kind: type[AicsweepError], reason: str, message: str, remedy: str = "") -> Known:
    return Known(re.compile(pattern), kind, reason, message, remedy)


GROUP_REMEDY = (
    "wait for the card to boot, or join the group `qaic` of the device node (in a pod: its number and name)"
)

# Sources: cloud-ai-sdk issues 2, 4, 5; efficient-transformers issue 1129; texts of the open runtime.
KNOWN: Sequence[Known] = (
    _known(
        r"No space left on device|Disk quota exceeded|Read-only file system",
        Infrastructure, "disk", "the tool could not write its files",
    ),
    _known(
        r"Unable to AddNodesToGraphFromModel",
        Infeasible, "unsupported-operator", "the compiler refuses the graph: {line}",
    ),
    _known(
        r"Invalid option (-\S+?)\.?(?=\s|$)",
        BadInput, "invalid-flag", "{tool} of this SDK does not know {group}",
        "report it with the SDK's version, or use an SDK of a line that is known (1.10 to 1.21)",
    ),
    _known(
        r"\[json\.exception\.[^\]]*\][^\n]*",
        BadInput, "schema", "{tool} of this SDK wants a JSON file of another form: {group0}",
        "report it with the SDK's version",
    ),
    _known(
        r"Memory resource exhausted|activate failed status 300|Failed to Activate program"
        r"|QAIC_ERROR_EXECOBJ_RUNTIME",
        Infeasible, "device-memory", "the card has not enough memory or NSPs for it: {line}",
    ),
    _known(
        r"Failed to open\(?\)? device|Device:\d+ not in ready state|Invalid device:\d+"
        r"|Failed to get Runtime Platform|Failed to initialize QAIC runner",
        Infrastructure, "device-error", "the card can't be used: {line}", GROUP_REMEDY,
    ),
    _known(
        r"Device Busy|Connection timed out",
        PointFailed, "device-timeout", "the card or its driver did not answer in time: {line}",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Missing:
    """Something a tool that says it succeeded did not leave behind."""

    reason: str
    message: str


def judge(
    stage: Stage,
    cell: Cell,
    ended: Ended,
    *,
    limit_s: float,
    missing: Missing | None = None,
    device_was_free: bool | None = None,
) -> AicsweepError | None:
    """The error a tool's end means for `cell`, or None for success (exit 0 and nothing `missing`).

    `device_was_free`: no NSP of the card was in use before, None if unknown; it decides whether a card
    that ran out of memory is the point's fault.
    """
    if ended.over_limit:
        message = f"{ended.tool} had not ended after {limit_s:g} s"
        return PointFailed(stage, "time-limit", message, log_tail=ended.log_tail)
    if ended.killed:
        message = f"{ended.tool} was killed, as the kernel does when the host's memory runs out"
        if stage == "run":
            # Running takes little memory: somebody else used it up.
            return Infrastructure(message, remedy="look at what else runs on this host", reason="killed")
        return PointFailed(stage, "killed", message, log_tail=ended.log_tail)
    if ended.signal is not None:
        message = f"{ended.tool} was ended by {signal.Signals(ended.signal).name}"
        return PointFailed(stage, "crashed", message, log_tail=ended.log_tail)
    if ended.ok and missing is None:
        return None
    for known in KNOWN:
        for text in (ended.stderr_tail, ended.stdout_tail):
            if found := known.pattern.search(text):
                return _as_error(stage, cell, ended, known, found, device_was_free)
    if not ended.ok:
        message = f"{ended.tool} ended with exit code {ended.exit_code}: {_last_line(ended)}"
        return PointFailed(stage, "tool-error", message, log_tail=ended.log_tail)
    assert missing is not None
    return PointFailed(stage, missing.reason, missing.message, log_tail=ended.log_tail)


def _as_error(
    stage: Stage,
    cell: Cell,
    ended: Ended,
    known: Known,
    found: re.Match[str],
    device_was_free: bool | None,
) -> AicsweepError:
    kind, remedy = known.kind, known.remedy
    group = found.group(1) if found.re.groups else ""
    message = known.message.format(
        tool=ended.tool, line=_line_of(found), group=group, group0=found.group(0)[:300]
    )
    if known.reason == "invalid-flag" and _asked_for(cell, group):
        kind, remedy = Infeasible, "leave it out of `extra`, or use an SDK that knows it"
    if known.reason == "device-memory" and device_was_free is not True:
        # With others on the card it may be theirs; if nobody knows, it counts as a failure like others.
        kind = PointFailed if device_was_free is None else Infrastructure
    if kind is BadInput:
        return BadInput([Problem("", message, remedy)])
    if issubclass(kind, PointFailed):
        return kind(stage, known.reason, message, remedy=remedy, log_tail=ended.log_tail)
    if known.reason == "disk":
        return disk_error(f"what {ended.tool} writes", found.group(0))
    return Infrastructure(message, remedy=remedy, reason=known.reason)


def _asked_for(cell: Cell, option: str) -> bool:
    """Whether the option came with the cell's extra flags and not from us."""
    names = {flag.lstrip("-").partition("=")[0] for flag in shlex.split(cell.extra or "")}
    return option.lstrip("-").partition("=")[0] in names


def _line_of(found: re.Match[str]) -> str:
    """The line of the match; for the compiler's closing exception the line that names the operator."""
    text = found.string
    if operator := re.search(r"Error message:\s*(.+)", text):
        return operator[1].strip()[:300]
    start = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    return text[start : end if end >= 0 else None].strip()[:300]


def _last_line(ended: Ended) -> str:
    lines = ended.log_tail.strip().splitlines()
    return lines[-1].strip()[:300] if lines else "no output"
