"""Results: one measurement or failure of a slot, written in immutable segments. Columns and their units.

A segment is zstd-compressed text: one line of JSON that holds for every row (plan, lot, round, writer,
provenance), then CSV with a line of column names. A row names its slot; the slot's parameters stand in
the plan. CSV is read more than twice as fast as JSON objects (docs/adr/0007).
"""

from __future__ import annotations

import io
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import zstandard
from pyarrow import csv

SCHEMA = 1
OK, FAILED, INFEASIBLE, UNFIT, MISSING = "ok", "failed", "infeasible", "unfit", "missing"
# Which of several results of one epoch counts, best first. A result that is `missing` is no verdict: it says
# that the slot was tried and why nothing came of it (a device's or host's fault).
VERDICTS = (OK, INFEASIBLE, FAILED, MISSING)
# Reason of an `ok` result whose surroundings changed meanwhile: wanted again, used until there is a better.
CONTENDED = "contended"
# Warning: the numbers are those of emulated tools.
EMULATED_SDK = "emulated-sdk"
# Warning: the slot was asked for again, and there is nothing new of it yet.
AGAIN_WANTED = "wanted-again"
# Reason of a failure: the device's output differs from ONNX Runtime fp32 beyond tolerance.
WRONG_OUTPUT = "wrong-output"
# ... or: what worked on it was killed, a tool by memory running out or a pod with all in it.
KILLED = "killed"
LOG_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Result:
    """One result. Throughput in images/s, times in seconds, memory in bytes; None where not measured.

    `ci95` are half widths of 95 % intervals; `latency_n` counts samples (inferences) of all windows,
    `throughput_n` windows. `relative_error` compares the exported graph with the eager model,
    `output_*` the device's first output with ONNX Runtime fp32 on the same graph and input.
    """

    slot: str
    epoch: int
    status: str
    started_at: str
    device_s: float
    stage: str = ""
    reason: str = ""
    message: str = ""
    log_tail: str = ""
    warnings: str = ""
    throughput_images_s: float | None = None
    throughput_ci95_images_s: float | None = None
    throughput_std_images_s: float | None = None
    throughput_n: int | None = None
    latency_mean_s: float | None = None
    latency_min_s: float | None = None
    latency_p50_s: float | None = None
    latency_p90_s: float | None = None
    latency_p95_s: float | None = None
    latency_p95_ci95_s: float | None = None
    latency_p99_s: float | None = None
    latency_max_s: float | None = None
    latency_n: int | None = None
    device: str = ""
    gate_s: float | None = None
    load_s: float | None = None
    warmup_s: float | None = None
    peak_memory_bytes: int | None = None
    export_key: str = ""
    graph_digest: str = ""
    binary_key: str = ""
    weights_name: str = ""
    weights_revision: str = ""
    clipped_values: int | None = None
    max_abs_error: float | None = None
    relative_error: float | None = None
    output_max_abs_error: float | None = None
    output_relative_error: float | None = None
    output_cosine: float | None = None
    output_top1_agreement: float | None = None
    input_digest: str = ""
    output_digest: str = ""
    facts: str = ""


_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_ANNOTATIONS = {"str": str, "int": int, "float": float, "float | None": float, "int | None": int}
RESULT_SCHEMA = pa.schema(
    [(name, _TYPES[_ANNOTATIONS[str(kind)]]) for name, kind in Result.__annotations__.items()]
)
# As read: text that results share is held once.
_DISTINCT_TEXT = {"slot", "started_at"}
TABLE_SCHEMA = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), pa.string()))
        if field.type == pa.string() and field.name not in _DISTINCT_TEXT
        else field
        for field in RESULT_SCHEMA
    ]
)
SEGMENT_SUFFIX = ".csv.zst"
# More than any writer makes of the results of 30 s: what is larger is not read. Compressed, and as text.
SEGMENT_BYTES = 64 * 2**20
SEGMENT_TEXT_BYTES = 512 * 2**20
_VALUES = operator.attrgetter(*RESULT_SCHEMA.names)


def encode_segment(header: Mapping[str, Any], results: Sequence[Result]) -> bytes:
    """The bytes of a segment; its header gets the schema's number and that of the rows.

    Raises ValueError or TypeError where a value is not of its field's type.
    """
    values = [_VALUES(result) for result in results]
    # Turned by zip, no rows would be no columns.
    columns = zip(*values, strict=True) if values else [()] * len(RESULT_SCHEMA)
    rows = pa.table(
        {
            # From pandas' point of view NaN is no value.
            field.name: pa.array(column, field.type, from_pandas=True)
            for field, column in zip(RESULT_SCHEMA, columns, strict=True)
        }
    )
    sink = io.BytesIO()
    sink.write(orjson.dumps({"schema": SCHEMA, **header, "rows": len(results)}) + b"\n")
    csv.write_csv(rows, sink)
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(sink.getvalue())


@dataclass(frozen=True)
class Segment:
    """A segment read back: its header, the line of column names, and the lines of `rows` results."""

    header: Mapping[str, Any]
    names: bytes
    lines: memoryview
    rows: int


def decode_segment(data: bytes, decompressor: zstandard.ZstdDecompressor | None = None) -> Segment:
    """Raises ValueError where the bytes are no whole segment of a schema this version reads. Who decodes
    many may lend a `decompressor`: making one takes as long as using it."""
    try:
        if not 0 < zstandard.frame_content_size(data) <= SEGMENT_TEXT_BYTES:
            raise ValueError(f"damaged segment: no text, or more than {SEGMENT_TEXT_BYTES:,} bytes of it")
        text = (decompressor or zstandard.ZstdDecompressor()).decompress(data)
        names_at = text.find(b"\n") + 1
        header = orjson.loads(memoryview(text)[:names_at])
    except (zstandard.ZstdError, orjson.JSONDecodeError) as error:
        raise ValueError(f"damaged segment: {error}") from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise ValueError("a segment of a schema this aicsweep does not read")
    rows, lines_at = header.get("rows"), text.find(b"\n", names_at) + 1
    if not isinstance(rows, int) or not lines_at:
        raise ValueError("damaged segment: it has no rows")
    return Segment(header, text[names_at:lines_at], memoryview(text)[lines_at:], rows)


def parse_rows(segments: Sequence[Segment]) -> pa.Table:
    """The rows of segments that have the same columns, one after the other, in TABLE_SCHEMA.

    Columns it does not know are left out, those it misses are null. Raises ValueError where a line is no result.
    """
    text = b"".join([segments[0].names, *(segment.lines for segment in segments)])
    table = csv.read_csv(
        pa.BufferReader(text),
        # One block: many small chunks cost more to hold. Threads cost a third more CPU here.
        read_options=csv.ReadOptions(use_threads=False, block_size=len(text) + 1),
        # Messages and ends of logs hold line ends.
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=TABLE_SCHEMA,
            include_columns=TABLE_SCHEMA.names,
            include_missing_columns=True,
            null_values=[""],
            strings_can_be_null=False,
        ),
    )
    if table.num_rows != sum(segment.rows for segment in segments):
        raise ValueError("damaged segment: more or fewer rows than its header says")
    return table


def warned(warnings: pa.Array, where: pa.Array, word: str) -> pa.Array:
    """A column `warnings` with one more `word` in the rows `where`."""
    before = pc.fill_null(warnings.cast(pa.string()), "")
    longer = pc.if_else(pc.equal(before, ""), word, pc.binary_join_element_wise(before, word, "; "))
    return pc.if_else(where, longer, warnings.cast(pa.string())).dictionary_encode()
