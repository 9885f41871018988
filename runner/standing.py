"""How a stored sweep stands: its slots by status, what the devices' time went into, and whether its table is new.

What is told is what the results in the store give by now, also where no merge has seen all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner import ledger, merge, tables
from runner.progress import duration
from runner.segments import Results
from runner.store import NotFound, Store
from runner.stored import newest_plan, read_results
from runner.table_records import CURRENT, DamagedTable, current_of, manifest_of


@dataclass(frozen=True)
class Standing:
    """Of one sweep's run. `device_s` and `overhead_s` are the ledger's; `table` is the published one's folder
    (empty: none yet), `unmerged` how many segments came since, `damaged` the keys of what is not read, and why."""

    prefix: str
    name: str
    run: str
    plan: str
    round: int
    counts: Mapping[str, int]
    # Of those with a verdict, how many show an older result than was asked for.
    wanted_again: int
    device_s: Mapping[str, float]
    overhead_s: Mapping[str, float]
    table: str
    segments: int
    unmerged: int
    damaged: Mapping[str, str]

    @property
    def share(self) -> float | None:
        """Of the device time used, what went into numbers that count; None where none was used."""
        return ledger.share(self.device_s)


def of(root: Store, prefix: str) -> Standing:
    """How the sweep's run at `prefix` stands. Raises StoreError, and as `stored_plan`."""
    home = root.at(prefix) if prefix else root
    current = newest_plan(home)
    results = read_results(home)
    best = merge.winners(results)
    device_s, overhead_s = ledger.device_seconds(results, best), ledger.overhead_seconds(results, best)
    table, unmerged, faults = _published(home, results)
    damaged, segments = {**results.damaged, **faults}, len(results.segments) + len(results.damaged)
    rows = merge.merge(current, results, best=best)
    sweep: Mapping[str, Any] = current.header["sweep"]
    return Standing(
        prefix, sweep["name"], sweep["run"], current.digest, current.round, merge.counts(rows),
        merge.count_wanted_again(rows), device_s, overhead_s, table, segments, unmerged, damaged,
    )  # fmt: skip


def _published(home: Store, results: Results) -> tuple[str, int, Mapping[str, str]]:
    """Folder of the current table, how many segments it was not merged from, and why that is not known."""
    there = {*results.segments, *results.damaged}
    if not home.exists(CURRENT):
        return "", len(there), {}
    at = ""
    try:
        at = current_of(home).table
        merged = tables.merged_segments(home, at, manifest_of(home, at))
        return at, len(there - merged.keys()), {}
    except DamagedTable as error:
        return at, len(there), {error.key: error.fault}
    except NotFound as error:
        return at, len(there), {at: f"is not whole: {error.message}"}


def as_text(standing: Standing) -> str:
    """Lines for people."""
    counts = ", ".join(f"{count:,} {status}" for status, count in standing.counts.items() if count)
    again = f"; {standing.wanted_again:,} of them to be measured again" if standing.wanted_again else ""
    new = f", {standing.unmerged:,} not in the table: `aicsweep merge`" if standing.unmerged else ""
    no_table = "not known" if CURRENT in standing.damaged else "none yet"
    lines = [
        f"{standing.name} (run {standing.run})",
        f"  slots     {counts or '-'}{again}",
        f"  devices   {device_time(standing.device_s, standing.overhead_s)}",
        f"  plan      {standing.plan[:12]}, round {standing.round}",
        f"  table     {standing.table or no_table}",
        f"  segments  {standing.segments:,}{new}",
    ]
    lines += [f"  damaged   {key}: {fault}" for key, fault in standing.damaged.items()]
    return "\n".join(lines)


def device_time(device_s: Mapping[str, float], overhead_s: Mapping[str, float]) -> str:
    """`2 h 5 min, 91 % of it measuring; loading 5 %, warm-up 4 %`: uses of less than half a percent are left out."""
    used, part = sum(device_s.values()), ledger.share(device_s)
    if part is None:
        return "no device time used"
    others = {**overhead_s, "failed": device_s["failed"], "repeated": device_s["repeated"]}
    parts = [f"{use} {seconds / used:.0%}" for use, seconds in others.items() if seconds / used >= 0.005]
    rest = f"; {', '.join(parts)}" if parts else ""
    return f"{duration(used)} of device time, {part:.0%} of it measuring{rest}".replace("%", " %")
