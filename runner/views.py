"""Views of the table: a narrow default for a terminal, everything for files. Pure but for the file they are given."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from runner.axes import BEST_LATENCY
from runner.keys import ANY_TARGET
from runner.result import EMULATED_SDK

# A spreadsheet runs a cell that begins with one of these as a formula. (After a leading tab or carriage
# return it looks on, hence those.)
_FORMULA = r"^[=+\-@\t\r]"
# Rows of CSV made at a time: bounds memory whatever the size of the table.
_CSV_ROWS = 50_000


def default_view(frame: pd.DataFrame) -> pd.DataFrame:
    """Ten columns of text for people: images/s and p95 with their 95 % half widths, against the look-up row.
    A fleet's rows begin with their target; what else varies among rivals stands beside their cores."""
    varying = _varying(frame)
    rows = []
    for row in frame[_SHOWN].to_dict("records"):
        rows.append(
            {
                "model": row["model"],
                "objective": row["objective"].removeprefix("best-"),
                "batch": str(row["batch_size"]),
                "cores×i": ", ".join([f"{row['cores']}×{row['instances']}", *_more(row, varying)]),
                "set": str(row["set_size"]),
                "images/s": _with_error(row["throughput_images_s"], row["throughput_ci95_images_s"], 1),
                "p95 ms": _with_error(row["latency_p95_s"], row["latency_p95_ci95_s"], 1000),
                "vs LUT": against_lut(row),
                "status": _status(row),
                "warnings": _warnings(row),
            }
        )
    view = pd.DataFrame(rows, columns=COLUMNS, dtype=str)
    if (frame["target"] != ANY_TARGET).any():
        view.insert(0, "target", frame["target"].to_list())
    return view


# Of the table's columns, those that the default view is made of.
_SHOWN = [
    "model", "objective", "backend", "weights", "batch_size", "cores", "instances", "set_size",
    "throughput_images_s", "throughput_ci95_images_s", "latency_p95_s", "latency_p95_ci95_s",
    "lut_throughput_images_s", "lut_latency_p95_s", "status", "rank", "tie", "emulated", "reason", "warnings",
    "message", "image_size", "opset", "precision", "ols", "mos", "extra",
]  # fmt: skip
# Shown only where they vary.
_MORE = {
    "image_size": "{} px",
    "opset": "opset {}",
    "precision": "{}",
    "ols": "ols {}",
    "mos": "mos {}",
    "extra": "{}",
}
_EXTRA_CHARACTERS = 24
COLUMNS = [
    "model", "objective", "batch", "cores×i", "set", "images/s", "p95 ms", "vs LUT", "status", "warnings",
]  # fmt: skip


def _varying(frame: pd.DataFrame) -> list[str]:
    """Parameters without a column of their own in which rivals differ."""
    rivals = frame.groupby(["model", "objective"], observed=True)
    return [name for name in _MORE if (rivals[name].nunique(dropna=False) > 1).any()]


def _more(row: Mapping[Any, Any], varying: list[str]) -> list[str]:
    texts = [(name, "none" if pd.isna(row[name]) else str(row[name])) for name in varying]
    return [_MORE[name].format(text[:_EXTRA_CHARACTERS]) for name, text in texts]


def against_lut(row: Mapping[Any, Any]) -> str:
    """Measured over the vendor's published figure (throughput, or p95 for best-latency), for cards only:
    the figures are those of an AIC100 card, a CPU's or a made-up share of them says nothing."""
    made_up = row["emulated"] or EMULATED_SDK in str(row["warnings"])
    if row["backend"] == "onnxruntime" or made_up:
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
    """`write_csv` of a data frame, as text."""
    sink = io.BytesIO()
    write_csv(pa.Table.from_pandas(frame, preserve_index=False), sink)
    return sink.getvalue().decode()


def write_csv(table: pa.Table, file: IO[bytes]) -> None:
    """CSV with text that a spreadsheet would run as a formula disarmed by a leading quote. Text is in
    quotes, what is not known is empty."""
    # Few words stand in many rows: they are looked at once.
    columns = [_disarmed_words(c) if pa.types.is_dictionary(c.type) else c for c in table.columns]
    schema = pa.schema([(name, _plain(c.type)) for name, c in zip(table.column_names, columns, strict=True)])
    with csv.CSVWriter(file, schema) as writer:
        for start in range(0, table.num_rows, _CSV_ROWS):
            slices = (column.slice(start, _CSV_ROWS) for column in columns)
            rows = [_disarmed(c) if _is_text(c.type) else c.cast(_plain(c.type)) for c in slices]
            writer.write_table(pa.table(rows, schema=schema))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if _is_text(kind) or pa.types.is_dictionary(kind) else kind


def _disarmed_words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    coded = column.unify_dictionaries().combine_chunks()
    return pa.chunked_array([pa.DictionaryArray.from_arrays(coded.indices, _disarmed(coded.dictionary))])


def _disarmed(text: pa.Array) -> pa.Array:
    text = text.cast(pa.string())
    armed = pc.match_substring_regex(text, _FORMULA)
    return pc.if_else(armed, pc.binary_join_element_wise("'", text, ""), text)


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
    if status == "ok" and row["tie"]:
        return "ok, tie"
    return "ok, best" if status == "ok" and row["rank"] == 1 else status


def _warnings(row: Mapping[Any, Any]) -> str:
    notes = ["fake"] if row["emulated"] else []
    notes += ["random weights"] if row["weights"] == "random" else []
    for name in ("reason", "warnings", "message"):
        value = row[name]
        if isinstance(value, str) and value and (name != "message" or row["status"] == "unfit"):
            notes.append(value)
    return "; ".join(notes)
