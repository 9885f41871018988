"""Prove a sweep's table: every digest checked, the table computed anew from the segments it names.

    current.json -> manifest -> files of the table, segments (by list and digest), plan -> merge -> the same table?
                                segments -> artefacts that their rows name -> files (by size and digest)

Nothing is written. `verify` goes on after a fault, so that all of them are named at once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner import artifacts, keys, ledger, merge, plan, tables
from runner.artifacts import Artifact, DamagedArtifact, Kind
from runner.differences import differences
from runner.errors import BadInput, StoreError, counted
from runner.plan import Plan
from runner.result import SEGMENT_SUFFIX
from runner.store import NotFound, Store
from runner.stored import read_results, stored_plan
from runner.workplace import Reporter

# What can be wrong with an object, or with what follows from it.
MISSING, ALTERED, DAMAGED, UNMERGED, DIFFERS, UNPROVEN = (
    "missing", "altered", "damaged", "unmerged", "differs", "unproven",
)  # fmt: skip
# So many segments between two words on progress.
_EVERY = 1_000
_MERGE = "`aicsweep merge` makes the table anew"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: `kind` is a word above, `key` the object, from the store's root on."""

    kind: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind:<9} {self.key}: {self.message}"


@dataclass
class Proof:
    """What was found of one sweep's run; proven if nothing was. `prefix` is its folder in the store."""

    prefix: str
    table: str = ""
    rows: int = 0
    segments: int = 0
    plans: int = 0
    artifacts: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        return not self.findings

    def add(self, kind: str, key: str, message: str) -> None:
        """Note a fault of `key`, a key of the sweep's folder."""
        self.findings.append(Finding(kind, f"{self.prefix}/{key}" if self.prefix else key, message))


# An artefact's faults (key of the object, kind, message), so that sweeps that share it check it once.
Checked = dict[tuple[Kind, str], tuple[Artifact | None, list[Finding]]]


def verify(root: Store, prefix: str, reporter: Reporter, checked: Checked | None = None) -> Proof:
    """Check the sweep's run at `prefix`. Raises StoreError where the store can't be reached."""
    proof, home = Proof(prefix), root.at(prefix) if prefix else root
    _plans(home, proof, reporter)
    current = _json(home, tables.CURRENT, proof, "the sweep's table was never merged, or somebody deleted it")
    at = str(current.get("table", "")) if current else ""
    manifest = _json(home, f"{at}/manifest.json", proof, _MERGE) if at else None
    listed = _segments_of(home, at, manifest, proof) if manifest else {}
    results = _results(home, listed, proof, reporter)
    _artifacts(root, results, proof, reporter, {} if checked is None else checked)
    if current and manifest:
        proof.table = at
        if manifest.get("plan") != current.get("plan"):
            proof.add(ALTERED, tables.CURRENT, f"names another plan than {at}/manifest.json")
        _table(home, at, manifest, results, proof, reporter)
    return proof


def _plans(home: Store, proof: Proof, reporter: Reporter) -> None:
    for entry in home.list("plans"):
        name = entry.key.removeprefix("plans/").removesuffix(".parquet")
        proof.plans += 1
        if keys.digest_bytes(home.get(entry.key))[: keys.ID_HEX_DIGITS] != name:
            proof.add(ALTERED, entry.key, "its digest is not its name")
    reporter.say(f"{proof.prefix or home.url}: {counted(proof.plans, 'plan')}")


def _json(home: Store, key: str, proof: Proof, if_missing: str) -> Mapping[str, Any] | None:
    try:
        content = orjson.loads(home.get(key))
    except NotFound:
        proof.add(MISSING, key, if_missing)
        return None
    except orjson.JSONDecodeError as error:
        proof.add(ALTERED, key, f"is no JSON: {error}")
        return None
    if not isinstance(content, dict):
        proof.add(ALTERED, key, "is no JSON object")
        return None
    return content


def _segments_of(
    home: Store, at: str, manifest: Mapping[str, Any], proof: Proof
) -> Mapping[str, tuple[bytes | None, str | None]]:
    """What the table was merged from: by key the digest, and why the segment was left out."""
    if manifest.get("schema") != tables.MANIFEST_SCHEMA:
        proof.add(UNPROVEN, f"{at}/manifest.json", f"by another aicsweep, without digests: {_MERGE}")
        return dict.fromkeys(
            (entry.key for entry in home.list("results") if entry.key.endswith(SEGMENT_SUFFIX)), (None, None)
        )
    name = f"{at}/{manifest['segments']['file']}"
    try:
        rows = pq.read_table(io.BytesIO(home.get(name))).to_pylist()
        return {row["key"]: (row["sha256"], row["fault"]) for row in rows}
    except NotFound:
        # Of the table's files it is named as missing there.
        return {}
    except (ValueError, KeyError, OSError) as error:
        proof.add(ALTERED, name, f"can't be read: {error}")
        return {}


def _results(
    home: Store,
    listed: Mapping[str, tuple[bytes | None, str | None]],
    proof: Proof,
    reporter: Reporter,
) -> merge.Results:
    """The results that the table was merged from, each segment held to its digest."""
    there = {entry.key for entry in home.list("results") if entry.key.endswith(SEGMENT_SUFFIX)}
    proof.segments = len(there)
    read = 0

    def say(key: str) -> None:
        nonlocal read
        read += 1
        if read % _EVERY == 0:
            reporter.say(f"  {read:,} of {len(there & listed.keys()):,} segments read")

    results = read_results(home, only=listed.keys(), seen=say)
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
    manifest: Mapping[str, Any],
    results: merge.Results,
    proof: Proof,
    reporter: Reporter,
) -> None:
    """The table's files held to their digests, then its content to what follows from plan and results."""
    for name, sha256 in manifest.get("files", {}).items():
        _object(home, f"{at}/{name}", str(sha256), proof)
    stored = _stored_table(home, at, proof)
    current = _plan(home, str(manifest.get("plan")), proof)
    if stored is None or current is None:
        return
    proof.rows = stored.num_rows
    facts: dict[str, Mapping[str, float]] = {
        "device_s": ledger.device_seconds(results),
        "overhead_s": ledger.overhead_seconds(results),
    }
    computed = merge.merge(current, results, manifest.get("unreached"))
    reporter.say(f"  {computed.num_rows:,} rows computed anew")
    for difference in differences(stored, computed):
        proof.add(DIFFERS, f"{at}/table.parquet", difference)
    facts["counts"] = merge.counts(computed)
    for name, value in facts.items():
        if name in manifest and not _close(manifest[name], value):
            proof.add(DIFFERS, f"{at}/manifest.json", f"{name}: {manifest[name]} stored, {value} follows")


def _close(stored: Mapping[str, float], computed: Mapping[str, float]) -> bool:
    """Sums of seconds may have been added up in another order."""
    return stored.keys() == computed.keys() and all(
        abs(stored[name] - value) <= 1e-6 * max(1.0, abs(value)) for name, value in computed.items()
    )


def _stored_table(home: Store, at: str, proof: Proof) -> pa.Table | None:
    name = f"{at}/table.parquet"
    try:
        data = home.get(name)
        if keys.digest_bytes(data)[: keys.ID_HEX_DIGITS] != at.removeprefix("tables/"):
            proof.add(ALTERED, name, "its digest is not its folder's name")
        return pq.read_table(io.BytesIO(data))
    except NotFound:
        proof.add(MISSING, name, _MERGE)
    except (ValueError, OSError) as error:
        proof.add(ALTERED, name, f"can't be read: {error}")
    return None


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


def digest_of(store: Store, key: str) -> str:
    """SHA-256, hex, of an object of any size. Raises NotFound."""
    hashed = hashlib.sha256()
    for part in store.stream(key):
        hashed.update(part)
    return hashed.hexdigest()


def _artifacts(
    root: Store, results: merge.Results, proof: Proof, reporter: Reporter, checked: Checked
) -> None:
    """The artefacts that results name: there, whole, and of graphs the one that was measured."""
    wanted = list(named_artifacts(results.table))
    proof.artifacts = len(wanted)
    new = [at for at in wanted if at not in checked]
    reporter.say(f"  {counted(len(wanted), 'artefact')}, {len(new)} to check")
    for number, at in enumerate(new, 1):
        checked[at] = _artifact(root, *at)
        found = checked[at][0]
        size = f"{found.size_bytes / 1e6:.1f} MB" if found else "not there"
        reporter.say(f"  {number}/{len(new)} {at[0]} {at[1]}: {size}")
    proof.findings += [finding for at in wanted for finding in checked[at][1]]
    pairs = results.table.select(["export_key", "graph_digest"]).group_by(["export_key", "graph_digest"])
    for row in pairs.aggregate([([], "count_all")]).to_pylist():
        found, _ = checked.get(("export", row["export_key"]), (None, []))
        if found and row["graph_digest"] and found.digest != row["graph_digest"]:
            message = f"is not the graph that {counted(row['count_all'], 'result')} came from"
            proof.findings.append(Finding(ALTERED, f"artifacts/export/{found.key}/manifest.json", message))


def named_artifacts(rows: pa.Table) -> Iterator[tuple[Kind, str]]:
    """Kind and key of every artefact that results name."""
    for kind in get_args(Kind):
        named = pc.unique(rows[f"{kind}_key"].cast(pa.string())).to_pylist()
        yield from ((kind, key) for key in sorted(filter(None, named)))


def _artifact(root: Store, kind: Kind, key: str) -> tuple[Artifact | None, list[Finding]]:
    where = f"artifacts/{kind}/{key}/manifest.json"
    try:
        found = artifacts.find(root, kind, key)
    except DamagedArtifact as error:
        return None, [Finding(ALTERED, where, error.message)]
    if found is None:
        return None, [Finding(MISSING, where, "results name it, and it is gone")]
    faults = []
    for file in found.files.values():
        try:
            if digest_of(root, file.object_key) != file.sha256:
                faults.append(Finding(ALTERED, file.object_key, "its digest is not the one in manifest.json"))
        except NotFound:
            faults.append(Finding(MISSING, file.object_key, "manifest.json names it, and it is gone"))
    return found, faults
