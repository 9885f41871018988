"""Prove a sweep's table: every digest checked, the table computed anew from the segments it names.

    current.json -> manifest -> files of the table, segments (by list and digest), plan -> merge -> the same table?
                                segments -> artefacts that their rows name -> files (by size and digest)

Nothing is written. `verify` goes on after a fault, so that all of them are named at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa

from runner import keys, ledger, merge, plan, tables
from runner.differences import differences
from runner.errors import BadInput, StoreError, counted
from runner.plan import Plan
from runner.proof import ALTERED, DAMAGED, DIFFERS, MISSING, UNMERGED, UNPROVEN, Proof, digest_of
from runner.proven_artifacts import Checked, check_artifacts
from runner.segments import Results
from runner.store import Listed, NotFound, Store
from runner.stored import plans_of, read_results, segments_in, stored_plan
from runner.table_records import (
    CURRENT,
    MANIFEST_SCHEMA,
    DamagedTable,
    SegmentsRecord,
    TableManifest,
    current_of,
    manifest_key,
    manifest_of,
)
from runner.workplace import Reporter

T = TypeVar("T")

# So many segments between two words on progress.
_EVERY = 1_000
_MERGE = "`aicsweep merge` makes the table anew"


def verify(root: Store, prefix: str, reporter: Reporter, checked: Checked | None = None) -> Proof:
    """Check the sweep's run at `prefix`. Raises StoreError where the store can't be reached."""
    proof, home = Proof(prefix), root.at(prefix) if prefix else root
    _plans(home, proof, reporter)
    current = _record(
        proof, CURRENT, lambda: current_of(home), f"never merged, or somebody deleted it: {_MERGE}"
    )
    at = current.table if current else ""
    manifest = _record(proof, manifest_key(at), lambda: manifest_of(home, at), _MERGE) if at else None
    segments = segments_in(home)
    listed = _segments_of(home, at, manifest, segments, proof) if manifest else None
    results = _results(home, segments, listed, proof, reporter)
    check_artifacts(root, results, proof, reporter, {} if checked is None else checked)
    if current and manifest:
        proof.table = at
        if manifest.plan != current.plan:
            proof.add(ALTERED, CURRENT, f"names another plan than {manifest_key(at)}")
        _table(home, at, manifest, None if listed is None else results, proof, reporter)
    return proof


def _plans(home: Store, proof: Proof, reporter: Reporter) -> None:
    for digest, entry in plans_of(home).items():
        proof.plans += 1
        if keys.digest_bytes(home.get(entry.key))[: keys.ID_HEX_DIGITS] != digest:
            proof.add(ALTERED, entry.key, "its digest is not its name")
    reporter.say(f"{proof.prefix or home.url}: {counted(proof.plans, 'plan')}")


def _record(proof: Proof, key: str, read: Callable[[], T], if_missing: str) -> T | None:
    try:
        return read()
    except NotFound:
        proof.add(MISSING, key, if_missing)
    except DamagedTable as error:
        proof.add(ALTERED, key, error.fault)
    return None


def _segments_of(
    home: Store, at: str, manifest: TableManifest, there: Iterable[Listed], proof: Proof
) -> tables.Merged | None:
    """What the table was merged from: by key the digest, and why the segment was left out; None: not known."""
    if manifest.schema_number != MANIFEST_SCHEMA or not isinstance(manifest.segments, SegmentsRecord):
        proof.add(UNPROVEN, manifest_key(at), f"by another aicsweep, without digests: {_MERGE}")
        return dict.fromkeys((entry.key for entry in there), (None, None))
    try:
        return tables.merged_segments(home, at, manifest)
    except NotFound:
        # Of the table's files it is named as missing there.
        if manifest.segments.file not in manifest.files:
            proof.add(MISSING, f"{at}/{manifest.segments.file}", _MERGE)
    except DamagedTable as error:
        proof.add(ALTERED, error.key, error.fault)
    return None


def _results(
    home: Store, segments: Sequence[Listed], merged: tables.Merged | None, proof: Proof, reporter: Reporter
) -> Results:
    """The results that the table was merged from, each segment held to its digest; where that is not known, all."""
    there = {entry.key for entry in segments}
    listed: tables.Merged = dict.fromkeys(there, (None, None)) if merged is None else merged
    proof.segments = len(there)
    read = 0

    def say(key: str) -> None:
        nonlocal read
        read += 1
        if read % _EVERY == 0:
            reporter.say(f"  {read:,} of {len(there & listed.keys()):,} segments read")

    results = read_results(home, segments=[entry for entry in segments if entry.key in listed], seen=say)
    reporter.say(f"  {counted(proof.segments, 'segment')}, {results.table.num_rows:,} results")
    for key in sorted(there - listed.keys()):
        proof.add(UNMERGED, key, f"came after the merge: {_MERGE}")
    for key in sorted(listed.keys() - there):
        proof.add(MISSING, key, "the table was merged from it, and it is gone")
    for key, (sha256, _) in sorted(listed.items()):
        if key in results.damaged and (sha256 is None or results.digests.get(key) == sha256.hex()):
            proof.add(DAMAGED, key, f"{results.damaged[key]}; its results count as not measured")
        elif sha256 is not None and key in there and results.digests.get(key) != sha256.hex():
            why = f" ({results.damaged[key]})" if key in results.damaged else ""
            proof.add(ALTERED, key, f"its digest is not the one it was merged with{why}")
    return results


def _table(
    home: Store,
    at: str,
    manifest: TableManifest,
    results: Results | None,
    proof: Proof,
    reporter: Reporter,
) -> None:
    """The table's files held to their digests, then its content to what follows from plan and results; not where
    it is not known of which results it was merged."""
    for name, sha256 in manifest.files.items():
        _object(home, f"{at}/{name}", sha256, proof)
    stored = _stored_table(home, at, proof)
    current = _plan(home, manifest.plan, proof)
    if stored is None or current is None:
        return
    proof.rows = stored.num_rows
    if results is None:
        return
    best = merge.winners(results)
    device_s, overhead_s = ledger.device_seconds(results, best), ledger.overhead_seconds(results, best)
    computed = merge.merge(current, results, manifest.unreached, best)
    reporter.say(f"  {computed.num_rows:,} rows computed anew")
    for difference in differences(stored, computed):
        proof.add(DIFFERS, f"{at}/table.parquet", difference)
    for name, found, follows in (
        ("device_s", manifest.device_s, device_s),
        ("overhead_s", manifest.overhead_s, overhead_s),
        ("counts", manifest.counts, merge.counts(computed)),
    ):
        if found is not None and not _close(found, follows):
            proof.add(DIFFERS, manifest_key(at), f"{name}: {found} stored, {follows} follows")


def _close(stored: Mapping[str, float], computed: Mapping[str, float]) -> bool:
    """Sums of seconds may have been added up in another order."""
    return stored.keys() == computed.keys() and all(
        abs(stored[name] - value) <= 1e-6 * max(1.0, abs(value)) for name, value in computed.items()
    )


def _stored_table(home: Store, at: str, proof: Proof) -> pa.Table | None:
    name = f"{at}/table.parquet"
    data = _record(proof, name, lambda: home.get(name), _MERGE)
    if data is None:
        return None
    if keys.digest_bytes(data)[: keys.ID_HEX_DIGITS] != at.removeprefix("tables/"):
        proof.add(ALTERED, name, "its digest is not its folder's name")
    return _record(proof, name, lambda: tables.parse_parquet(home, name, data), _MERGE)


def _plan(home: Store, digest: str, proof: Proof) -> Plan | None:
    try:
        return stored_plan(home, digest)
    except NotFound:
        proof.add(MISSING, plan.key(digest), "the table can't be computed without its plan")
    except BadInput as error:
        proof.add(UNPROVEN, plan.key(digest), error.problems[0].message)
    except StoreError:
        # Its digest is not its name: said of every plan already.
        proof.add(UNPROVEN, plan.key(digest), "the table can't be computed without its plan")
    return None


def _object(home: Store, key: str, sha256: str, proof: Proof) -> None:
    try:
        found = digest_of(home, key)
    except NotFound:
        if not key.endswith("table.parquet"):
            proof.add(MISSING, key, _MERGE)
        return
    if found != sha256:
        proof.add(ALTERED, key, "its digest is not the one in manifest.json")
