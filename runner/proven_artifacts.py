"""The artefacts that results name, held to their manifests; a part of `verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc

from runner import artifacts
from runner.artifact_records import Artifact, DamagedArtifact, Kind, NewerArtifact
from runner.errors import counted
from runner.proof import ALTERED, MISSING, UNPROVEN, Finding, Proof, digest_of
from runner.segments import Results
from runner.store import NotFound, Store
from runner.workplace import Reporter

# An artefact's faults (key of the object, kind, message), so that sweeps that share it check it once.
Checked = dict[tuple[Kind, str], tuple[Artifact | None, list[Finding]]]


def check_artifacts(
    root: Store, results: Results, proof: Proof, reporter: Reporter, checked: Checked
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
    except NewerArtifact as error:
        return None, [Finding(UNPROVEN, where, error.message)]
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
