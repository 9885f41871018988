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

import contextlib
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from runner.errors import StoreError
from runner.keys import canonical, digest_bytes
from runner.store import NotFound, Store, is_key

Kind = Literal["export", "binary"]

SCHEMA: Literal[1] = 1

# 64 bits of the content's digest name its folder: it tells a handful of rival builds of one key apart.
_FOLDER_DIGITS = 16

# On S3 a put-if-absent may lose to a writer whose object is not there yet, or never will be (409).
_RACE_TRIES = 5
_RACE_PAUSE_S = 0.5

# Files found intact in this process, by path and digest: each is hashed once.
_verified: set[tuple[Path, str]] = set()
_verifying = threading.Lock()


class DamagedArtifact(StoreError):
    """An artefact's record or file is not what it should be; it is not used."""


@dataclass(frozen=True)
class ArtifactFile:
    """One file of an artefact; `object_key` is where the store has it."""

    size_bytes: int
    sha256: str
    object_key: str


@dataclass(frozen=True)
class Artifact:
    """A published artefact: its files by name, and what its maker recorded of it."""

    kind: Kind
    key: str
    files: Mapping[str, ArtifactFile]
    facts: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and digests of all files: of an export, the graph digest of binary keys."""
        return content_digest({name: file.sha256 for name, file in self.files.items()})

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())

    @property
    def folder_key(self) -> str:
        """Key of the folder that holds the files."""
        return f"{_base(self.kind, self.key)}/{self.digest[:_FOLDER_DIGITS]}"


def _plain(name: str) -> str:
    """A manifest's file names become paths: one that leads out of its folder must not get through."""
    if not is_key(name):
        raise ValueError(f"not a store key: {name!r}")
    return name


_Name = Annotated[str, AfterValidator(_plain)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class _Record(BaseModel):
    """What `manifest.json` and `infeasible.json` share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_number: Literal[1] = SCHEMA
    kind: Kind
    key: str
    facts: dict[str, Any]


class _Infeasible(_Record):
    """`infeasible.json`."""


class _Manifest(_Record):
    """`manifest.json`; of the files only what can't be derived."""

    files: Annotated[dict[_Name, _File], Field(min_length=1)]


_AnyRecord = TypeVar("_AnyRecord", bound=_Record)


def content_digest(sha256_of: Mapping[str, str]) -> str:
    """SHA-256, hex, of the canonical JSON of (name, sha256) pairs sorted by name."""
    return digest_bytes(canonical(sorted(sha256_of.items())))


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
        name: _File(size_bytes=p.stat().st_size, sha256=digest_file(p)) for name, p in sorted(paths.items())
    }
    manifest = _Manifest(kind=kind, key=key, files=files, facts=dict(facts))
    ours = _artifact(manifest)
    for name, path in paths.items():
        store.upload(ours.files[name].object_key, path)
    data = canonical(manifest.model_dump())
    for _ in range(_RACE_TRIES):
        if store.put_new(_manifest_key(kind, key), data):
            if cache is not None and store.is_remote:
                _copy(ours, folder, cache)
            return ours
        if (winner := find(store, kind, key)) is not None:
            return winner
        time.sleep(_RACE_PAUSE_S)
    raise StoreError(f"{store.url}/{_manifest_key(kind, key)} can't be written: it is taken, yet not there")


def find(store: Store, kind: Kind, key: str) -> Artifact | None:
    """The artefact of that key, of which only the manifest is read; None if there is none.

    Raises StoreError for a damaged manifest or one of a newer aicsweep.
    """
    where = _manifest_key(kind, key)
    try:
        data = store.get(where)
    except NotFound:
        return None
    return _artifact(_parse(_Manifest, store, where, data))


def fetch(store: Store, artifact: Artifact, cache: Path) -> Path:
    """A local folder with the artefact's files under their plain names, to be read and never written to.

    A folder store's own files are used in place; otherwise they are downloaded, once, to
    `cache/<kind>/<key>/<content digest>/`, which is there as a whole or not at all. In either
    case sizes and digests are compared on first use in this process; a cached copy that fails
    is downloaded again. Raises StoreError naming the object that is damaged or missing.
    """
    in_place = store.local_path(artifact.folder_key)
    if in_place is not None:
        for name, file in artifact.files.items():
            _require_intact(in_place / name, file, store)
        return in_place
    cached = _cached(cache, artifact)
    if _is_cached(cached, artifact):
        return cached
    _download(store, artifact, cached)
    return cached


def to_record(artifact: Artifact) -> dict[str, Any]:
    """The artefact as plain JSON values, as its manifest holds them."""
    files = {
        name: _File(size_bytes=file.size_bytes, sha256=file.sha256) for name, file in artifact.files.items()
    }
    manifest = _Manifest(kind=artifact.kind, key=artifact.key, files=files, facts=dict(artifact.facts))
    return manifest.model_dump()


def from_record(record: Mapping[str, Any]) -> Artifact:
    """The artefact that `to_record` wrote down. Raises ValueError for anything else."""
    return _artifact(_Manifest.model_validate(record))


def record_infeasible(store: Store, kind: Kind, key: str, facts: Mapping[str, Any]) -> None:
    """Remember for all sweeps that nobody can make this artefact. The first record stays.

    An artefact of the same key, made when asked again, counts more: ask `find` first.
    """
    record = _Infeasible(kind=kind, key=key, facts=dict(facts))
    store.put_new(_infeasible_key(kind, key), canonical(record.model_dump()))


def find_infeasible(store: Store, kind: Kind, key: str) -> Mapping[str, Any] | None:
    """The facts recorded of an artefact that can't be made; None if there is no such record."""
    where = _infeasible_key(kind, key)
    try:
        data = store.get(where)
    except NotFound:
        return None
    return _parse(_Infeasible, store, where, data).facts


def _base(kind: Kind, key: str) -> str:
    if kind not in get_args(Kind) or "/" in key:
        raise ValueError(f"no artefact: kind {kind!r}, key {key!r}")
    return f"artifacts/{kind}/{key}"


def _manifest_key(kind: Kind, key: str) -> str:
    return f"{_base(kind, key)}/manifest.json"


def _infeasible_key(kind: Kind, key: str) -> str:
    return f"{_base(kind, key)}/infeasible.json"


def _artifact(manifest: _Manifest) -> Artifact:
    digest = content_digest({name: file.sha256 for name, file in manifest.files.items()})
    folder = f"{_base(manifest.kind, manifest.key)}/{digest[:_FOLDER_DIGITS]}"
    files = {
        name: ArtifactFile(file.size_bytes, file.sha256, f"{folder}/{name}")
        for name, file in manifest.files.items()
    }
    return Artifact(manifest.kind, manifest.key, files, manifest.facts)


def _parse(record: type[_AnyRecord], store: Store, object_key: str, data: bytes) -> _AnyRecord:
    """A record read strictly: what isn't understood is not used."""
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _damaged(store, object_key, "is not JSON") from error
    schema = content.get("schema_number") if isinstance(content, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise StoreError(
            f"{store.url}/{object_key} has schema {schema}; this aicsweep reads up to {SCHEMA}",
            remedy="Use a newer aicsweep.",
        )
    try:
        parsed = record.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise _damaged(store, object_key, f"can't be understood ({field}: {first['msg']})") from error
    if not object_key.startswith(f"{_base(parsed.kind, parsed.key)}/"):
        raise _damaged(store, object_key, f"is that of {parsed.kind} {parsed.key}")
    return parsed


def _cached(cache: Path, artifact: Artifact) -> Path:
    return cache / artifact.kind / artifact.key / artifact.digest[:_FOLDER_DIGITS]


def _copy(artifact: Artifact, folder: Path, cache: Path) -> None:
    """Put our own files into the cache; where that fails they are fetched when they are needed."""
    target = _cached(cache, artifact)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        try:
            shutil.copytree(folder, temporary)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _download(store: Store, artifact: Artifact, target: Path) -> None:
    """Make `target` with all files, checked, by renaming; another process that does the same may win."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        for name, file in artifact.files.items():
            try:
                store.download(file.object_key, temporary / name)
            except NotFound as error:
                raise _damaged(store, file.object_key, "is missing") from error
            _require_intact(temporary / name, file, store)
        try:
            temporary.rename(target)
        except OSError:
            if not _is_cached(target, artifact):
                raise
        else:
            _verified.update((target / name, file.sha256) for name, file in artifact.files.items())
    except OSError as error:
        raise StoreError(
            f"can't keep an artefact in {target}: {os.strerror(error.errno or 0)}",
            remedy="Free some space there, or name another cache folder.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_cached(folder: Path, artifact: Artifact) -> bool:
    """Whether the folder holds the artefact intact; one that doesn't is taken out of the way."""
    if not folder.is_dir():
        return False
    if all(not _fault(folder / name, file) for name, file in artifact.files.items()):
        return True
    discarded = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        folder.rename(discarded)
    except FileNotFoundError:
        return False  # another process was quicker
    shutil.rmtree(discarded, ignore_errors=True)
    return False


def _require_intact(path: Path, file: ArtifactFile, store: Store) -> None:
    fault = _fault(path, file)
    if fault:
        raise _damaged(store, file.object_key, fault)


def _fault(path: Path, file: ArtifactFile) -> str:
    """What is wrong with a local copy, or "". Sizes are compared each time, digests once a process."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes != file.size_bytes:
            return f"has {size_bytes} bytes instead of {file.size_bytes}"
        with _verifying:
            if (path, file.sha256) not in _verified:
                if digest_file(path) != file.sha256:
                    return "has another digest than its manifest says"
                _verified.add((path, file.sha256))
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return ""


def digest_file(path: Path) -> str:
    """SHA-256, hex, of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(store: Store, object_key: str, fault: str) -> DamagedArtifact:
    base = "/".join(object_key.split("/")[:3])
    return DamagedArtifact(
        f"{store.url}/{object_key} {fault}",
        remedy=f"It is not used. Delete {store.url}/{base}/ and run again: it is then made anew.",
    )
