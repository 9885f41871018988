"""Views of the table: a narrow default for a terminal, everything for files. Pure functions of a data frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from runner.spec import BEST_LATENCY

# A spreadsheet runs a cell that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def default_view(frame: pd.DataFrame) -> pd.DataFrame:
    """Ten columns of text for people: images/s and p95 with their 95 % half widths, against the look-up row."""
    rows = []
    for row in frame.to_dict("records"):
        rows.append(
            {
                "model": row["model"],
                "objective": row["objective"].removeprefix("best-"),
                "batch": str(row["batch_size"]),
                "cores×i": f"{row['cores']}×{row['instances']}",
                "set": str(row["set_size"]),
                "images/s": _with_error(row["throughput_images_s"], row["throughput_ci95_images_s"], 1),
                "p95 ms": _with_error(row["latency_p95_s"], row["latency_p95_ci95_s"], 1000),
                "vs LUT": against_lut(row),
                "status": _status(row),
                "warnings": _warnings(row),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS, dtype=str)


COLUMNS = [
    "model", "objective", "batch", "cores×i", "set", "images/s", "p95 ms", "vs LUT", "status", "warnings",
]  # fmt: skip


def against_lut(row: Mapping[Any, Any]) -> str:
    """Measured over the vendor's published figure (throughput, or p95 for best-latency), for cards only:
    the figures are those of an AIC100 card, a CPU's share of them says nothing."""
    if row["backend"] == "onnxruntime":
        return ""
    latency = row["objective"] == BEST_LATENCY
    mine = row["latency_p95_s" if latency else "throughput_images_s"]
    theirs = row["lut_latency_p95_s" if latency else "lut_throughput_images_s"]
    if not isinstance(mine, float) or not isinstance(theirs, float) or pd.isna(mine) or pd.isna(theirs):
        return ""
    return f"{mine / theirs:.2f}×"


def best_only(frame: pd.DataFrame) -> pd.DataFrame:
    """The winner of each (model, objective, target)."""
    return frame[frame["rank"] == 1]


def to_csv(frame: pd.DataFrame) -> str:
    """CSV with text that a spreadsheet would run as a formula disarmed by a leading quote."""
    safe = frame.copy()
    for name in safe.columns:
        if pd.api.types.is_string_dtype(safe[name]) or safe[name].dtype == object:
            text = safe[name].astype("string").fillna("")
            # A leading tab or carriage return would make the check below miss what follows it.
            safe[name] = text.where(~text.str.startswith(_FORMULA), "'" + text)
    return safe.to_csv(index=False, lineterminator="\n")


def to_markdown(view: pd.DataFrame) -> str:
    """A Markdown table; pipes and line ends in values escaped."""
    lines = ["| " + " | ".join(view.columns) + " |", "|" + "---|" * len(view.columns)]
    for values in view.astype(str).itertuples(index=False):
        lines.append("| " + " | ".join(v.replace("|", "\\|").replace("\n", " ") for v in values) + " |")
    return "\n".join(lines)


def _with_error(value: float | None, half: float | None, scale: float) -> str:
    if value is None or pd.isna(value):
        return ""
    text = _digits(value * scale)
    return text if half is None or pd.isna(half) else f"{text} ±{_digits(half * scale)}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _status(row: Mapping[Any, Any]) -> str:
    status = str(row["status"])
    if status == "ok" and row["rank"] == 1:
        return "ok, tie" if row["tie"] else "ok, best"
    return status


def _warnings(row: Mapping[Any, Any]) -> str:
    notes = ["fake"] if row["emulated"] else []
    notes += ["random weights"] if row["weights"] == "random" else []
    for name in ("reason", "warnings", "message"):
        value = row[name]
        if isinstance(value, str) and value and (name != "message" or row["status"] == "unfit"):
            notes.append(value)
    return "; ".join(notes)
