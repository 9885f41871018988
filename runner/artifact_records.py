"""What an artefact is, and the records of it: `manifest.json`, or `infeasible.json` where nobody can make it. Pure.

A record is read strictly: what is not understood is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar, get_args

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from runner.errors import StoreError
from runner.keys import canonical, digest_bytes
from runner.store import Store, is_key

Kind = Literal["export", "binary"]

SCHEMA: Literal[1] = 1

# 64 bits of the content's digest name its folder: it tells a handful of rival builds of one key apart.
FOLDER_DIGITS = 16


class DamagedArtifact(StoreError):
    """An artefact's record or file is not what it should be; it is not used."""


class NewerArtifact(DamagedArtifact):
    """Its record is of a newer aicsweep: no fault of its own, and no use here."""


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
        return f"{_base(self.kind, self.key)}/{self.digest[:FOLDER_DIGITS]}"


def _plain(name: str) -> str:
    """A manifest's file names become paths: one that leads out of its folder must not get through."""
    if not is_key(name):
        raise ValueError(f"not a store key: {name!r}")
    return name


_Name = Annotated[str, AfterValidator(_plain)]


class FileRecord(BaseModel):
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


class InfeasibleRecord(_Record):
    """`infeasible.json`."""


class Manifest(_Record):
    """`manifest.json`; of the files only what can't be derived."""

    files: Annotated[dict[_Name, FileRecord], Field(min_length=1)]


_AnyRecord = TypeVar("_AnyRecord", bound=_Record)


def content_digest(sha256_of: Mapping[str, str]) -> str:
    """SHA-256, hex, of the canonical JSON of (name, sha256) pairs sorted by name."""
    return digest_bytes(canonical(sorted(sha256_of.items())))


def _base(kind: Kind, key: str) -> str:
    if kind not in get_args(Kind) or "/" in key:
        raise ValueError(f"no artefact: kind {kind!r}, key {key!r}")
    return f"artifacts/{kind}/{key}"


def manifest_key(kind: Kind, key: str) -> str:
    return f"{_base(kind, key)}/manifest.json"


def infeasible_key(kind: Kind, key: str) -> str:
    return f"{_base(kind, key)}/infeasible.json"


def artifact_of(manifest: Manifest) -> Artifact:
    digest = content_digest({name: file.sha256 for name, file in manifest.files.items()})
    folder = f"{_base(manifest.kind, manifest.key)}/{digest[:FOLDER_DIGITS]}"
    files = {
        name: ArtifactFile(file.size_bytes, file.sha256, f"{folder}/{name}")
        for name, file in manifest.files.items()
    }
    return Artifact(manifest.kind, manifest.key, files, manifest.facts)


def parse(record: type[_AnyRecord], store: Store, object_key: str, data: bytes) -> _AnyRecord:
    """A record read strictly: what isn't understood is not used. Raises DamagedArtifact."""
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise damaged(store, object_key, "is not JSON") from error
    schema = content.get("schema_number") if isinstance(content, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerArtifact(
            f"{store.url}/{object_key} has schema {schema}; this aicsweep reads up to {SCHEMA}",
            remedy="It is not used here. Use the newer aicsweep, in a cluster the image, that made it.",
        )
    try:
        parsed = record.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise damaged(store, object_key, f"can't be understood ({field}: {first['msg']})") from error
    if not object_key.startswith(f"{_base(parsed.kind, parsed.key)}/"):
        raise damaged(store, object_key, f"is that of {parsed.kind} {parsed.key}")
    return parsed


def to_record(artifact: Artifact) -> dict[str, Any]:
    """The artefact as plain JSON values, as its manifest holds them."""
    files = {
        name: FileRecord(size_bytes=file.size_bytes, sha256=file.sha256)
        for name, file in artifact.files.items()
    }
    manifest = Manifest(kind=artifact.kind, key=artifact.key, files=files, facts=dict(artifact.facts))
    return manifest.model_dump()


def from_record(record: Mapping[str, Any]) -> Artifact:
    """The artefact that `to_record` wrote down. Raises ValueError for anything else."""
    return artifact_of(Manifest.model_validate(record))


def damaged(store: Store, object_key: str, fault: str) -> DamagedArtifact:
    base = "/".join(object_key.split("/")[:3])
    return DamagedArtifact(
        f"{store.url}/{object_key} {fault}",
        remedy=f"It is not used. Delete {store.url}/{base}/ and run again: it is then made anew.",
    )
