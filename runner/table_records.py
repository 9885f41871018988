"""The records of a published table: `current.json`, which names it, and its `manifest.json`.

A record is read strictly: what is not understood is not used.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from runner.errors import StoreError
from runner.store import Store, is_key

CURRENT = "current.json"
MANIFEST_SCHEMA = 2


class DamagedTable(StoreError):
    """A record or a file of a published table is not what it should be; it is not used. `key` is the object's."""

    def __init__(self, home: Store, key: str, fault: str) -> None:
        super().__init__(f"{home.url}/{key} {fault}", remedy="`aicsweep merge` makes the table anew.")
        self.key, self.fault = key, fault


def _key(name: str) -> str:
    """Names become keys of the store: what is none must not get so far."""
    if not is_key(name):
        raise ValueError(f"not a store key: {name!r}")
    return name


_Key = Annotated[str, AfterValidator(_key)]


class _Record(BaseModel):
    """Fields that another version added are no fault: its tables can be read."""

    model_config = ConfigDict(strict=True, frozen=True)


class Current(_Record):
    """`current.json`: the plan that the current table is of, and the table's folder."""

    plan: _Key
    table: _Key


class SegmentsRecord(_Record):
    """The file beside the table that lists what it was merged from."""

    file: _Key
    count: int
    damaged: int


class TableManifest(_Record):
    """`manifest.json` of a table: what it was made from, sums, and the SHA-256 of its files by name. Of schema 1
    `segments` are the keys themselves, and files have no digests."""

    schema_number: Annotated[int, Field(alias="schema")]
    sweep: dict[str, Any]
    plan: _Key
    counts: dict[str, int]
    segments: SegmentsRecord | tuple[str, ...]
    files: dict[_Key, str] = {}
    device_s: dict[str, float] | None = None
    overhead_s: dict[str, float] | None = None
    unreached: dict[str, str] = {}


_AnyRecord = TypeVar("_AnyRecord", bound=_Record)


def current_of(home: Store) -> Current:
    """Raises NotFound where no table was published, DamagedTable."""
    return _read(Current, home, CURRENT)


def manifest_key(at: str) -> str:
    return f"{at}/manifest.json"


def manifest_of(home: Store, at: str) -> TableManifest:
    """Of the table in folder `at`. Raises NotFound, DamagedTable."""
    return _read(TableManifest, home, manifest_key(at))


def _read(record: type[_AnyRecord], home: Store, key: str) -> _AnyRecord:
    data = home.get(key)
    try:
        return record.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise DamagedTable(home, key, f"can't be understood ({field}: {first['msg']})") from error
