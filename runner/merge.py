"""Merge: results of all segments joined to the plan's rows, one winner a slot, rivals ranked. One table.

Winner among results of a slot: highest epoch, best verdict (ok, infeasible, failed, missing), uncontended
before contended, then the earliest (round, start, writer). Choosing is pure; `read_results` is what touches the store.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from runner.plan import Past, Plan
from runner.result import (
    CONTENDED,
    FAILED,
    INFEASIBLE,
    MISSING,
    OK,
    RESULT_SCHEMA,
    UNFIT,
    VERDICTS,
    decode_segment,
)
from runner.spec import BEST_LATENCY, BEST_THROUGHPUT

EARLIEST = ("round", "started_at", "writer")
# Bytes of NDJSON parsed in one go: many small segments share one call.
PARSE_BYTES = 32 << 20


@dataclass(frozen=True)
class Results:
    """All results of a sweep's run: rows, the segment of each, and what could not be read."""

    table: pa.Table
    segments: tuple[str, ...]
    damaged: Mapping[str, str]


def read_results(segments: Iterable[tuple[str, bytes]]) -> Results:
    """Parse segments (key, bytes). A damaged one is named in `damaged`; the others count."""
    keys: list[str] = []
    headers: list[Mapping[str, Any]] = []
    damaged: dict[str, str] = {}
    tables: list[pa.Table] = []
    bodies: list[bytes] = []
    counts: list[int] = []
    pending = 0

    def parse() -> None:
        if bodies:
            rows = pj.read_json(
                io.BytesIO(b"".join(bodies)),
                read_options=pj.ReadOptions(block_size=8 << 20),
                parse_options=pj.ParseOptions(
                    explicit_schema=RESULT_SCHEMA, unexpected_field_behavior="ignore"
                ),
            )
            first = len(keys) - len(counts)
            owner = np.repeat(np.arange(first, len(keys), dtype=np.int32), counts)
            tables.append(rows.append_column("segment", pa.array(owner)))
            bodies.clear()
            counts.clear()

    for key, data in segments:
        try:
            segment = decode_segment(data)
        except ValueError as error:
            damaged[key] = str(error)
            continue
        keys.append(key)
        headers.append(segment.header)
        bodies.append(segment.body)
        counts.append(segment.rows)
        pending += len(segment.body)
        if pending > PARSE_BYTES:
            parse()
            pending = 0
    parse()
    schema = RESULT_SCHEMA.append(pa.field("segment", pa.int32()))
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    return Results(_with_headers(table, headers), tuple(keys), damaged)


def past_of(results: Results) -> dict[str, Past]:
    """Best verdict, its reason, and number of attempts of every slot that has a result."""
    best = winners(results.table)
    tries = results.table.group_by("slot").aggregate([("slot", "count")])
    attempts = tries["slot_count"].take(pc.index_in(best["slot"], tries["slot"]))
    columns = (best["slot"], best["status"], attempts, best["reason"])
    return {
        slot: Past(verdict, count, reason)
        for slot, verdict, count, reason in zip(*(column.to_pylist() for column in columns), strict=True)
    }


def winners(table: pa.Table) -> pa.Table:
    """One row a slot. Independent of the order in which results arrived."""
    if table.num_rows == 0:
        return table
    verdict = pc.index_in(table["status"], pa.array(VERDICTS))
    keyed = table.append_column("_verdict", pc.fill_null(verdict, len(VERDICTS)))
    keyed = keyed.append_column("_epoch", pc.negate(keyed["epoch"]))
    keyed = keyed.append_column("_contended", pc.equal(keyed["reason"], CONTENDED).cast(pa.int8()))
    order = pc.sort_indices(
        keyed,
        [(name, "ascending") for name in ("slot", "_epoch", "_verdict", "_contended", *EARLIEST)],
    )
    slots = table["slot"].take(order).combine_chunks()
    first = np.ones(len(slots), dtype=bool)
    first[1:] = pc.not_equal(slots[1:], slots[:-1]).to_numpy(zero_copy_only=False)
    return table.take(order.filter(pa.array(first)))


def merge(plan: Plan, results: Results) -> pa.Table:
    """The table: a row for every wanted (objective, slot), in the grid's order, with status and ranks."""
    best = winners(results.table)
    rows = plan.table.sort_by("row")
    place = pc.index_in(rows["slot"], best["slot"])
    measured = best.drop_columns(["slot", "epoch"]).take(place)
    table = rows.drop_columns(["row", "lot", "position", "location", "estimate_s", "compile_estimate_s"])
    for name in measured.column_names:
        table = table.append_column(name, measured[name])
    unfit = pc.not_equal(table["unfit"].cast(pa.string()), "")
    status = pc.if_else(unfit, UNFIT, pc.fill_null(table["status"], MISSING))
    table = table.set_column(table.schema.get_field_index("status"), "status", status)
    message = pc.if_else(unfit, table["unfit"].cast(pa.string()), table["message"])
    table = table.set_column(table.schema.get_field_index("message"), "message", message)
    table = table.append_column("emulated", pa.array([bool(plan.header["emulated"])] * table.num_rows))
    return _ranked(table.drop_columns(["unfit"]))


def _ranked(table: pa.Table) -> pa.Table:
    """`rank` among rivals of (model, objective, target), 1 the best; `tie` where a rival's interval
    overlaps the best one's. best-throughput ranks by images/s, best-latency by p95, balanced by the
    distance to the ideal corner of normalised throughput and latency (the knee of the front)."""
    frame = table.select(
        ["model", "objective", "target", "status", "throughput_images_s", "throughput_ci95_images_s",
         "latency_p95_s", "latency_p95_ci95_s"]
    ).to_pandas()  # fmt: skip
    rank = np.zeros(len(frame), dtype=np.int64)
    tie = np.zeros(len(frame), dtype=bool)
    usable = frame[(frame["status"] == OK) & frame["throughput_images_s"].notna()]
    for (_, objective, _), rivals in usable.groupby(
        ["model", "objective", "target"], observed=True, sort=False
    ):
        throughput, latency = rivals["throughput_images_s"], rivals["latency_p95_s"]
        if objective == BEST_THROUGHPUT:
            score, half = -throughput, rivals["throughput_ci95_images_s"]
        elif objective == BEST_LATENCY:
            score, half = latency, rivals["latency_p95_ci95_s"]
        else:
            score = np.hypot(1 - throughput / throughput.max(), 1 - latency.min() / latency)
            half = score * np.nan
        ranked = score.dropna().sort_values(kind="stable").index
        rank[ranked] = np.arange(1, len(ranked) + 1)
        if len(ranked) > 1:
            first, reach = ranked[0], half.fillna(0.0)
            close = (score[ranked] - reach[ranked]) <= score[first] + reach[first]
            tie[ranked[close.to_numpy()]] = bool(close.sum() > 1)
    table = table.append_column("rank", pa.array(rank, mask=rank == 0))
    return table.append_column("tie", pa.array(tie))


_HEADER_TEXT = ("plan", "writer", "host", "cpu", "kernel", "os", "aicsweep_version", "tools")


def _with_headers(table: pa.Table, headers: list[Mapping[str, Any]]) -> pa.Table:
    owner = table["segment"].combine_chunks()
    for name in _HEADER_TEXT:
        values = [_as_text(header.get(name, "")) for header in headers]
        column = pa.array(values, pa.string()).take(owner) if headers else pa.array([], pa.string())
        table = table.append_column(name, column)
    for name in ("round", "lot"):
        values = pa.array([int(header.get(name, 0)) for header in headers], pa.int64())
        table = table.append_column(name, values.take(owner))
    return table


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def counts(table: pa.Table) -> dict[str, int]:
    """Distinct slots by status."""
    slots = table.group_by(["slot", "status"]).aggregate([])
    found = slots.group_by("status").aggregate([("slot", "count")]).to_pylist()
    result = dict.fromkeys((OK, INFEASIBLE, FAILED, UNFIT, MISSING), 0)
    result.update({row["status"]: row["slot_count"] for row in found})
    return result
