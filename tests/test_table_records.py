"""The records of a table: what is read of them, and what is not understood."""

from __future__ import annotations

import orjson
import pytest

from runner.store import Store, open_store
from runner.table_records import CURRENT, DamagedTable, SegmentsRecord, current_of, manifest_key, manifest_of

MANIFEST = {
    "schema": 2,
    "sweep": {"name": "a"},
    "plan": "p",
    "counts": {"ok": 1},
    "segments": {"file": "segments-1.parquet", "count": 1, "damaged": 0},
    "files": {"table.csv": "0"},
}


@pytest.fixture
def home() -> Store:
    return open_store("memory:")


def put(home: Store, key: str, record: object) -> None:
    home.put(key, orjson.dumps(record))


def test_fields_of_a_later_version_are_no_fault(home: Store) -> None:
    put(home, CURRENT, {"plan": "p", "table": "tables/t", "new": 1})
    put(home, manifest_key("tables/t"), {**MANIFEST, "new": 1})
    assert current_of(home).table == "tables/t"
    manifest = manifest_of(home, "tables/t")
    assert manifest.segments == SegmentsRecord(file="segments-1.parquet", count=1, damaged=0)
    assert (manifest.schema_number, manifest.device_s, manifest.unreached) == (2, None, {})


def test_a_manifest_of_schema_1_lists_its_segments_itself(home: Store) -> None:
    old = {name: MANIFEST[name] for name in ("sweep", "plan", "counts")}
    put(home, manifest_key("t"), {**old, "schema": 1, "segments": ["results/a", "results/b"]})
    assert manifest_of(home, "t").segments == ("results/a", "results/b")


@pytest.mark.parametrize("name", ["../x", "a b", "", "a//b"])
def test_what_names_no_object_goes_no_further(home: Store, name: str) -> None:
    """Names become keys of the store, which refuses others with an error of its own."""
    put(home, CURRENT, {"plan": "p", "table": name})
    with pytest.raises(DamagedTable, match=r"current\.json can't be understood \(table: .*not a store key"):
        current_of(home)
