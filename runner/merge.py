"""Merge: results of all segments joined to the plan's rows, one winner a slot, rivals ranked. One table.

    segments --(segments.py)--> Results --(winners)--> one result a slot --(merge, ranks)--> table

Winner among results of a slot: one with a verdict before one that is missing, highest epoch, best verdict (ok,
infeasible, failed), uncontended before contended, then the earliest (round, start, writer). So what is measured
again shows its old result until there is a new one, and from then on the new one, whatever it is. All is done
by column.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runner import fleet, ranks
from runner.keys import node_of
from runner.plan import Past, Plan, still_wanted
from runner.plan_schema import PLAN_SCHEMA
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
    warned,
)
from runner.segments import HEADER_NUMBERS, HEADER_TEXT, Results

# Reason of a missing row: its node or device could not be reached.
UNREACHED = "unreached"
# Columns of the plan that are about the work, not about the point.
_WORK = ("row", "lot", "position", "location", "estimate_s", "compile_estimate_s")
# Those of results that stand in the plan's already, or in none.
_NOT_SHOWN = ("slot", "epoch", "segment")
TABLE_COLUMNS = (
    *(name for name in PLAN_SCHEMA.names if name not in (*_WORK, "unfit")),
    *(name for name in TABLE_SCHEMA.names if name not in _NOT_SHOWN),
    *HEADER_TEXT,
    *HEADER_NUMBERS,
    "emulated",
    *ranks.COLUMNS,
    *fleet.COLUMNS,
)


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
