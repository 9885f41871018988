"""The runner's latency files: one for each instance, four leading lines, a CSV header, a row an inference.

Files are matched by pattern (their numbers begin at 0 in old SDKs, at 1 in new ones) and columns by name
(their order is not documented). Times are microseconds there and seconds here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runner.backends.qaic.verdicts import Missing

PATTERN = "*latency.txt"
LEADING_LINES = 4
ROUND_TRIP, EXECUTION = "totalRoundtripTimeUs", "execTotalUs"
# What the vendor's script takes; which column that is depends on an order nobody documents.
FALLBACK_COLUMN = -3
UNNAMED = "latency-column-unnamed"
LAST_LINE_BYTES = 4096

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Latencies:
    """Rows of all instances together, in seconds; `execution_s` (submit to completion) where it has a column.

    `rows` counts those of each file, `header` is the first file's first lines as they are.
    """

    round_trip_s: Samples
    execution_s: Samples | None
    rows: Sequence[int]
    header: str
    warnings: Sequence[str]


def read(folder: Path, instances: int) -> Latencies | Missing:
    """The latencies in `folder`, or what is wrong with its files."""
    paths = sorted(folder.glob(PATTERN))
    if len(paths) != instances:
        return _missing(f"{len(paths)} latency files for {instances} instances")
    parts = []
    for path in paths:
        part = _read(path)
        if isinstance(part, Missing):
            return part
        parts.append(part)
    execution = [part.execution_s for part in parts if part.execution_s is not None]
    return Latencies(
        np.concatenate([part.round_trip_s for part in parts]),
        np.concatenate(execution) if len(execution) == len(parts) else None,
        [len(part.round_trip_s) for part in parts],
        parts[0].header,
        sorted({warning for part in parts for warning in part.warnings}),
    )


def _read(path: Path) -> Latencies | Missing:
    with path.open(errors="replace") as file:
        leading = [file.readline() for _ in range(LEADING_LINES + 1)]
    names = [name.strip() for name in leading[-1].split(",")]
    if len(names) < -FALLBACK_COLUMN:
        return _missing(f"{path.name} ends within its first {LEADING_LINES + 1} lines")
    last_line = _last_line(path)
    if last_line == leading[-1].rstrip("\r\n"):
        return _missing(f"{path.name} has no rows")
    if last_line.count(",") != len(names) - 1:
        return _missing(f"{path.name} breaks off within its last row")
    named = ROUND_TRIP in names
    columns = [names.index(ROUND_TRIP) if named else len(names) + FALLBACK_COLUMN]
    if EXECUTION in names:
        columns.append(names.index(EXECUTION))
    try:
        # Only these columns are read: others hold text such as N/A.
        values = np.loadtxt(path, delimiter=",", skiprows=LEADING_LINES + 1, usecols=columns, ndmin=2)
    except ValueError as error:
        return _missing(f"{path.name} can't be read: {str(error)[:200]}")
    if not (np.isfinite(values).all() and (values[:, 0] > 0).all()):
        return _missing(f"{path.name} holds times that are none")
    seconds = values * 1e-6
    return Latencies(
        np.ascontiguousarray(seconds[:, 0]),
        np.ascontiguousarray(seconds[:, 1]) if len(columns) > 1 else None,
        [len(values)],
        "".join(leading).strip(),
        () if named else (UNNAMED,),
    )


def _last_line(path: Path) -> str:
    """The last line, with or without a line end. A file of a million rows is not read for it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_LINE_BYTES), os.SEEK_SET)
        lines = file.read().decode(errors="replace").rstrip("\r\n").splitlines()
    return lines[-1] if lines else ""


def _missing(message: str) -> Missing:
    return Missing("latency-files", message)
