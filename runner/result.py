"""Results: one measurement or failure of a slot, written in immutable segments. Columns and their units.

A segment is zstd-compressed NDJSON: a first line that holds for every row (plan, lot, round, writer,
provenance), then one line a result. A row names its slot; the slot's parameters stand in the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import zstandard

SCHEMA = 1
OK, FAILED, INFEASIBLE, UNFIT, MISSING = "ok", "failed", "infeasible", "unfit", "missing"
# Which of several results of one epoch counts, best first. A result that is `missing` says that the
# slot was tried and why nothing came of it (a device's or host's fault).
VERDICTS = (OK, INFEASIBLE, FAILED, MISSING)
# Reason of an `ok` result whose surroundings changed meanwhile: wanted again, used until there is a better.
CONTENDED = "contended"
# Reason of a failure: the device's output differs from ONNX Runtime fp32 beyond tolerance.
WRONG_OUTPUT = "wrong-output"
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


def encode_segment(header: Mapping[str, Any], results: Sequence[Result]) -> bytes:
    """The bytes of a segment; its header gets the schema's number."""
    lines = [
        orjson.dumps({"schema": SCHEMA, **header}),
        *map(orjson.dumps, results),
    ]
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(b"\n".join(lines) + b"\n")


@dataclass(frozen=True)
class Segment:
    """A segment read back: its header, its rows still as NDJSON, and how many there are."""

    header: Mapping[str, Any]
    body: bytes
    rows: int


def decode_segment(data: bytes) -> Segment:
    """Raises ValueError where the bytes are no whole segment of a schema this version reads."""
    try:
        text = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        head, _, body = text.partition(b"\n")
        header = orjson.loads(head)
    except (zstandard.ZstdError, orjson.JSONDecodeError) as error:
        raise ValueError(f"damaged segment: {error}") from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise ValueError("a segment of a schema this aicsweep does not read")
    if not body.endswith(b"\n"):
        raise ValueError("damaged segment: cut off")
    return Segment(header, body, body.count(b"\n"))
