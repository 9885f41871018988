"""Artefacts: exported graphs and compiled binaries, kept in the store under the key of what they are made of.

    export, compile --publish--> store --find, fetch--> compile, measure

    artifacts/<kind>/<key>/<content digest>/<file>...    the files, under their plain names
    artifacts/<kind>/<key>/manifest.json                 put-if-absent, last: makes it an artefact
    artifacts/<kind>/<key>/infeasible.json               or: nobody can make it, and why

Two writers of a key may make different bytes (builds need not be byte-stable). Their files lie
in different folders, named by content, and the first manifest decides which of them is the
artefact; the other's are never referred to. So a reader never sees a mixture.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import artifact_copies
from runner.artifact_copies import digest_file, fetch
from runner.artifact_records import (
    Artifact,
    ArtifactFile,
    DamagedArtifact,
    FileRecord,
    InfeasibleRecord,
    Kind,
    Manifest,
    artifact_of,
    from_record,
    infeasible_key,
    manifest_key,
    parse,
    to_record,
)
from runner.errors import StoreError
from runner.keys import canonical
from runner.store import NotFound, Store

__all__ = [
    "Artifact", "ArtifactFile", "DamagedArtifact", "Kind", "digest_file", "fetch", "find",
    "find_infeasible", "from_record", "publish", "record_infeasible", "to_record",
]  # fmt: skip

# On S3 a put-if-absent may lose to a writer whose object is not there yet, or never will be (409).
_RACE_TRIES = 5
_RACE_PAUSE_S = 0.5


def publish(
    store: Store, kind: Kind, key: str, folder: Path, facts: Mapping[str, Any], cache: Path | None = None
) -> Artifact:
    """Upload every file below `folder`, then the manifest; `facts` are plain JSON values. A `cache` gets a copy
    of what is now in a remote store: who made it need not fetch it.

    Returns the artefact of that key, which is another writer's if there was one already, or one
    that was quicker: use what is returned, not `folder`. Raises StoreError; ValueError for an
    empty folder, or names that can't be keys.
    """
    if (there := find(store, kind, key)) is not None:
        return there
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if not paths:
        raise ValueError(f"nothing to publish in {folder}")
    files = {
        name: FileRecord(size_bytes=p.stat().st_size, sha256=digest_file(p))
        for name, p in sorted(paths.items())
    }
    manifest = Manifest(kind=kind, key=key, files=files, facts=dict(facts))
    ours = artifact_of(manifest)
    for name, path in paths.items():
        store.put(ours.files[name].object_key, path)
    data = canonical(manifest.model_dump())
    for _ in range(_RACE_TRIES):
        if store.put_new(manifest_key(kind, key), data):
            if cache is not None and store.is_remote:
                artifact_copies.keep(ours, folder, cache)
            return ours
        if (winner := find(store, kind, key)) is not None:
            return winner
        time.sleep(_RACE_PAUSE_S)
    raise StoreError(f"{store.url}/{manifest_key(kind, key)} can't be written: it is taken, yet not there")


def find(store: Store, kind: Kind, key: str) -> Artifact | None:
    """The artefact of that key, of which only the manifest is read; None if there is none.

    Raises DamagedArtifact, NewerArtifact where the manifest is a newer aicsweep's.
    """
    where = manifest_key(kind, key)
    try:
        data = store.get(where)
    except NotFound:
        return None
    return artifact_of(parse(Manifest, store, where, data))


def record_infeasible(store: Store, kind: Kind, key: str, facts: Mapping[str, Any]) -> None:
    """Remember for all sweeps that nobody can make this artefact. The first record stays.

    An artefact of the same key, made when asked again, counts more: ask `find` first.
    """
    record = InfeasibleRecord(kind=kind, key=key, facts=dict(facts))
    store.put_new(infeasible_key(kind, key), canonical(record.model_dump()))


def find_infeasible(store: Store, kind: Kind, key: str) -> Mapping[str, Any] | None:
    """The facts recorded of an artefact that can't be made; None if there is no such record."""
    where = infeasible_key(kind, key)
    try:
        data = store.get(where)
    except NotFound:
        return None
    return parse(InfeasibleRecord, store, where, data).facts
