"""Merge: results of all segments joined to the plan's rows, one winner a slot, rivals ranked. One table.

    segments --(read_results)--> Results --(winners)--> one result a slot --(merge, ranks)--> table

Winner among results of a slot: one with a verdict before one that is missing, highest epoch, best verdict (ok,
infeasible, failed), uncontended before contended, then the earliest (round, start, writer). So what is measured
again shows its old result until there is a new one, and from then on the new one, whatever it is. All is done
by column.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from runner import fleet, ranks
from runner.keys import digest_bytes, node_of
from runner.plan import Past, Plan, still_wanted
from runner.plan_schema import PLAN_SCHEMA, TEXT
from runner.planfile import can_run
from runner.result import (
    AGAIN_WANTED,
    CONTENDED,
    FAILED,
    INFEASIBLE,
    MISSING,
    OK,
    TABLE_SCHEMA,
    UNFIT,
    VERDICTS,
    Segment,
    decode_segment,
    parse_rows,
    warned,
)

# Reason of a missing row: its node or device could not be reached.
UNREACHED = "unreached"
# Bytes of rows parsed in one go: many small segments share one call.
PARSE_BYTES = 4 << 20
# What a segment's header says of each of its rows.
_HEADER_TEXT = ("plan", "writer", "node", "host", "cpu", "kernel", "os", "aicsweep_version", "tools")
_HEADER_NUMBERS = ("round", "lot")
# Columns of the plan that are about the work, not about the point.
_WORK = ("row", "lot", "position", "location", "estimate_s", "compile_estimate_s")
# Those of results that stand in the plan's already, or in none.
_NOT_SHOWN = ("slot", "epoch", "segment")
TABLE_COLUMNS = (
    *(name for name in PLAN_SCHEMA.names if name not in (*_WORK, "unfit")),
    *(name for name in TABLE_SCHEMA.names if name not in _NOT_SHOWN),
    *_HEADER_TEXT,
    *_HEADER_NUMBERS,
    "emulated",
    *ranks.COLUMNS,
    *fleet.COLUMNS,
)


@dataclass
class Results:
    """All results of a sweep's run: rows with the number of their segment, what each segment's header
    says (a row a segment), the segments' keys, what could not be read, and the SHA-256 of all of them."""

    table: pa.Table
    headers: pa.Table
    segments: tuple[str, ...]
    damaged: Mapping[str, str]
    digests: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str, rows: Any) -> pa.Array:
        """A column of the headers for some rows (null where a row's number is null)."""
        return self.headers[name].combine_chunks().take(self.table["segment"].take(rows).combine_chunks())


def read_results(segments: Iterable[tuple[str, bytes]]) -> Results:
    """Parse segments (key, bytes). A damaged one is named in `damaged`; the others count."""
    reader = _Reader()
    for key, data in segments:
        reader.add(key, data)
    return reader.finish()


class _Reader:
    """Segments as they come; many are parsed together."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._headers: dict[str, list[Any]] = {name: [] for name in (*_HEADER_TEXT, *_HEADER_NUMBERS)}
        self._damaged: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._tables: list[pa.Table] = []
        self._waiting: dict[str, Segment] = {}
        self._bytes = 0
        self._decompressor = zstandard.ZstdDecompressor()

    def add(self, key: str, data: bytes) -> None:
        self._digests[key] = digest_bytes(data)
        try:
            segment = decode_segment(data, self._decompressor)
        except ValueError as error:
            self._damaged[key] = str(error)
            return
        others = next(iter(self._waiting.values()), segment)
        if self._bytes > PARSE_BYTES or segment.names != others.names:
            self._parse()
        self._waiting[key] = segment
        self._bytes += len(segment.lines)

    def finish(self) -> Results:
        self._parse()
        schema = TABLE_SCHEMA.append(pa.field("segment", pa.int32()))
        table = pa.concat_tables([schema.empty_table(), *self._tables]).unify_dictionaries()
        headers = pa.table(
            {
                **{name: pa.array(self._headers[name], TEXT) for name in _HEADER_TEXT},
                **{name: pa.array(self._headers[name], pa.int64()) for name in _HEADER_NUMBERS},
            }
        )
        return Results(table, headers, tuple(self._keys), self._damaged, self._digests)

    def _parse(self) -> None:
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        try:
            self._take(waiting)
        except ValueError:
            # One of them: find out which, so that the others count.
            for key, segment in waiting.items():
                try:
                    self._take({key: segment})
                except ValueError as error:
                    self._damaged[key] = f"damaged segment: {error}"

    def _take(self, segments: Mapping[str, Segment]) -> None:
        if not segments:
            return
        rows = parse_rows(list(segments.values()))
        first = len(self._keys)
        counts = [segment.rows for segment in segments.values()]
        owner = np.repeat(np.arange(first, first + len(counts), dtype=np.int32), counts)
        self._tables.append(rows.append_column("segment", pa.array(owner)))
        self._keys += segments
        for segment in segments.values():
            for name in _HEADER_TEXT:
                self._headers[name].append(sys.intern(_as_text(segment.header.get(name, ""))))
            for name in _HEADER_NUMBERS:
                self._headers[name].append(int(segment.header.get(name, 0)))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


class Winners(NamedTuple):
    """Slots that have results; of each, the row of the one that counts, and how many there are."""

    slots: pa.Array
    rows: npt.NDArray[np.int64]
    attempts: npt.NDArray[np.int64]


def winners(results: Results) -> Winners:
    """One result a slot. Independent of the order in which results arrived."""
    table = results.table
    coded = table["slot"].dictionary_encode().combine_chunks()
    slots, slot = coded.dictionary, coded.indices.to_numpy()
    attempts = np.bincount(slot, minlength=len(slots))
    rows = np.empty(len(slots), dtype=np.int64)
    rows[slot] = np.arange(len(slot))
    # Most slots have one result; only the others are sorted.
    rivals = np.flatnonzero(attempts[slot] > 1)
    status, reason = (table[name].take(rivals).cast(pa.string()) for name in ("status", "reason"))
    verdict = pc.index_in(status, pa.array(VERDICTS))
    keyed = pa.table(
        {
            "slot": slot[rivals],
            "no_verdict": pc.equal(status, MISSING).cast(pa.int8()),
            "epoch": pc.negate(table["epoch"].take(rivals)),
            "verdict": pc.fill_null(verdict, len(VERDICTS)),
            "contended": pc.equal(reason, CONTENDED).cast(pa.int8()),
            "round": results.header("round", rivals),
            "started_at": table["started_at"].take(rivals),
            "writer": results.header("writer", rivals).cast(pa.string()),
            # Never needed, but that no order of arrival can show.
            "segment": pa.array(results.segments, pa.string()).take(
                table["segment"].take(rivals).combine_chunks()
            ),
        }
    )
    order = pc.sort_indices(keyed, [(name, "ascending") for name in keyed.column_names]).to_numpy()
    ordered = slot[rivals][order]
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    rows[ordered[first]] = rivals[order[first]]
    return Winners(slots, rows, attempts)


def _winning_rows(best: Winners, slots: pa.Array) -> pa.Array:
    """For each slot the row of its result that counts, null where it has none."""
    return pa.array(best.rows).take(pc.index_in(slots, best.slots))


def since(results: Results, epochs: Mapping[str, int]) -> Results:
    """Without those of slots in `epochs` that are of an earlier epoch: the slot is wanted once more."""
    if not epochs:
        return results
    least = pa.array(epochs.values(), pa.int64())
    place = pc.index_in(results.table["slot"].combine_chunks(), pa.array(epochs.keys(), pa.string()))
    wanted = pc.greater_equal(results.table["epoch"].combine_chunks(), pc.fill_null(least.take(place), 0))
    return replace(results, table=results.table.filter(wanted))


def past_of(results: Results, epochs: Mapping[str, int] | None = None) -> dict[str, Past]:
    """Of every slot that has a result, or is in `epochs`: the verdict that counts, its reason, and the number of
    attempts. Of a slot in `epochs` nothing counts that is of an earlier epoch."""
    epochs = epochs or {}
    results = since(results, epochs)
    best = winners(results)
    verdicts, reasons = (
        results.table[name].take(best.rows).cast(pa.string()).to_pylist() for name in ("status", "reason")
    )
    # Few differ: slots share them.
    past = functools.cache(Past)
    columns = zip(best.slots.to_pylist(), verdicts, best.attempts.tolist(), reasons, strict=True)
    found = {slot: Past(MISSING, 0, epoch=epoch) for slot, epoch in epochs.items()}
    for slot, verdict, attempts, reason in columns:
        found[slot] = past(verdict, attempts, reason, epochs.get(slot, 0))
    return found


def merge(
    plan: Plan,
    results: Results,
    unreached: Mapping[str, str] | None = None,
    best: Winners | None = None,
) -> pa.Table:
    """The table: a row for every wanted (objective, slot), in the grid's order, with status and ranks.

    Slots without a result on a node in `unreached` get its reason. `best` are the results' winners, where the
    caller has them. Takes the rows out of `results` as it goes: a million are in memory once, not twice.
    """
    order = np.argsort(plan.columns("row")["row"].to_numpy())

    def planned(name: str) -> pa.Array:
        return plan.columns(name)[name].combine_chunks().take(order)

    rows = _winning_rows(winners(results) if best is None else best, planned("slot"))
    columns = {name: planned(name) for name in plan.names if name not in _WORK}
    headers = {name: results.header(name, rows) for name in results.headers.column_names}
    measured, results.table = results.table, results.table.schema.empty_table()
    wanted, epoch = columns["epoch"], measured["epoch"].combine_chunks().take(rows).cast(pa.int16())
    columns["epoch"] = pc.coalesce(epoch, wanted)
    for name in measured.column_names:
        if name not in _NOT_SHOWN:
            columns[name] = measured[name].combine_chunks().take(rows)
        measured = measured.drop_columns([name])
        # Arrow's allocator would keep what is freed: 200 MB of a million rows.
        pa.default_memory_pool().release_unused()
    columns |= headers
    reason = columns.pop("unfit").cast(pa.string())
    fits = pc.equal(reason, "")
    status = pc.fill_null(columns["status"].cast(pa.string()), MISSING)
    message = columns["message"].cast(pa.string())
    columns["status"] = pc.if_else(fits, status, UNFIT).dictionary_encode()
    columns["message"] = pc.if_else(fits, message, reason).dictionary_encode()
    older = pc.fill_null(pc.less(epoch, wanted), False)
    if pc.any(older).as_py():
        columns["warnings"] = warned(columns["warnings"], older, AGAIN_WANTED)
    if unreached:
        columns |= _why_unreached(columns, unreached)
    columns["emulated"] = pa.repeat(bool(plan.header["emulated"]), len(order))
    return fleet.compare(ranks.with_ranks(pa.table(columns)))


def _why_unreached(columns: Mapping[str, pa.Array], unreached: Mapping[str, str]) -> dict[str, pa.Array]:
    """Reason and message, those of missing rows on a node that nobody reached replaced."""
    nodes = columns["target"].dictionary.to_pylist()
    why = pa.array([unreached.get(node_of(target)) for target in nodes], pa.string())
    why = why.take(columns["target"].indices)
    missing = pc.equal(columns["status"].cast(pa.string()), MISSING)
    affected = pc.and_(pc.is_valid(why), missing)
    changed = {"reason": pa.scalar(UNREACHED), "message": why}
    return {
        name: pc.if_else(affected, new, columns[name].cast(pa.string())).dictionary_encode()
        for name, new in changed.items()
    }


def count_wanted(plan: Plan, results: Results, unreached: Container[str] = ()) -> int:
    """Slots of the plan that another round would measure; those of nodes in `unreached` it would not."""
    rows = plan.columns("slot", "target", "unfit", where=can_run)
    target = rows["target"].combine_chunks()
    reached = [node_of(name) not in unreached for name in target.dictionary.to_pylist()]
    slots = pc.unique(rows["slot"].filter(pa.array(reached, pa.bool_()).take(target.indices)))
    done = _final_slots(since(results, plan.epochs), plan.sweep.spec.limits.rounds)
    return len(slots) - int(pc.sum(pc.is_in(slots, done)).as_py() or 0)


def _final_slots(results: Results, rounds: int) -> pa.Array:
    """Slots that need no further try (`plan.still_wanted`)."""
    best = winners(results)
    status, reason = (
        results.table[name].take(best.rows).combine_chunks().dictionary_encode()
        for name in ("status", "reason")
    )
    numbers = np.stack([status.indices.to_numpy(), reason.indices.to_numpy(), best.attempts])
    # Few differ: each combination is decided once.
    kinds, kind = np.unique(numbers, axis=1, return_inverse=True)
    final = [
        not still_wanted(Past(status.dictionary[s].as_py(), tries, reason.dictionary[r].as_py()), rounds)
        for s, r, tries in kinds.T.tolist()
    ]
    return best.slots.filter(pa.array(np.array(final, dtype=bool)[kind.ravel()]))


def counts(table: pa.Table) -> dict[str, int]:
    """Distinct slots by status."""
    coded = table["slot"].dictionary_encode().combine_chunks()
    _, first = np.unique(coded.indices.to_numpy(), return_index=True)
    found = pc.value_counts(table["status"].take(first).cast(pa.string())).to_pylist()
    result = dict.fromkeys((OK, INFEASIBLE, FAILED, UNFIT, MISSING), 0)
    result.update({row["values"]: row["counts"] for row in found})
    return result


def count_wanted_again(table: pa.Table) -> int:
    """Distinct slots that were asked for again and show an older result still."""
    old = pc.match_substring(table["warnings"].cast(pa.string()), AGAIN_WANTED)
    return len(pc.unique(table["slot"].filter(pc.fill_null(old, False))))
