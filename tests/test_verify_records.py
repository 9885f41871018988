"""What a published table says of itself, damaged: it is named, and a merge mends it."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import cli, standing
from runner.store import Store
from runner.stored import sweep_folders
from tests.finished import first, flip, proof_of, remove, said


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda manifest: manifest["counts"].update(ok=99), "differs"),
        (lambda manifest: manifest["device_s"].update(measuring=1.0), "differs"),
        (lambda manifest: manifest.update(schema=1), "unproven"),
        (lambda manifest: manifest.update(plan="0" * 32), "altered"),
    ],
)
def test_a_manifest_that_says_what_is_not_so(
    finished: Store, damage: Callable[[dict], object], kind: str
) -> None:
    key = next(e.key for e in finished.list("sweeps") if e.key.endswith("manifest.json"))
    manifest = json.loads(finished.get(key))
    damage(manifest)
    finished.put(key, orjson.dumps(manifest))
    assert kind in {kind for kind, _ in said(finished)}


def changed(**fields: object) -> Callable[[dict], object]:
    return lambda record: record.update(fields)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("current.json", changed(table="tables/../a b")),
        ("current.json", changed(table=5)),
        ("current.json", changed(plan=None)),
        ("current.json", lambda current: current.pop("table")),
        ("manifest.json", changed(segments={"count": 4, "damaged": 0})),
        ("manifest.json", changed(segments={"file": "a b", "count": 4, "damaged": 0})),
        ("manifest.json", changed(segments=7)),
        ("manifest.json", changed(files=["table.parquet"])),
        ("manifest.json", changed(files={"../x": "0"})),
        ("manifest.json", changed(device_s="a lot")),
        ("manifest.json", changed(unreached=[])),
        ("manifest.json", changed(counts=None)),
        ("manifest.json", changed(schema="2")),
        ("manifest.json", lambda manifest: manifest.pop("plan")),
    ],
)
def test_a_record_that_cant_be_understood_is_named_and_merging_mends_it(
    finished: Store, name: str, damage: Callable[[dict], object]
) -> None:
    key = next(e.key for e in finished.list("sweeps") if e.key.endswith(name))
    record = json.loads(finished.get(key))
    damage(record)
    finished.put(key, orjson.dumps(record))
    assert ("altered", key) in said(finished)
    (prefix,) = sweep_folders(finished)
    stands = standing.of(finished, prefix)
    (damaged,) = stands.damaged
    assert key == f"{prefix}/{damaged}"
    assert "none yet" not in standing.as_text(stands)
    cli.cli(["merge", finished.url], standalone_mode=False)
    assert proof_of(finished).proven


@pytest.mark.parametrize("data", [b"[]", b"5", b"", b"\xff\xfe", b'"x"'])
@pytest.mark.parametrize("name", ["current.json", "manifest.json"])
def test_a_record_of_other_bytes_is_named(finished: Store, name: str, data: bytes) -> None:
    key = next(e.key for e in finished.list("sweeps") if e.key.endswith(name))
    finished.put(key, data)
    assert ("altered", key) in said(finished)


def test_a_manifest_that_is_gone_is_not_taken_for_no_table(finished: Store) -> None:
    (prefix,) = sweep_folders(finished)
    remove(finished, next(e.key for e in finished.list("sweeps") if e.key.endswith("manifest.json")))
    found = standing.of(finished, prefix)
    assert found.table.startswith("tables/")
    (why,) = found.damaged.values()
    assert "is not whole" in why


def test_a_list_of_segments_with_other_columns_is_named(finished: Store) -> None:
    key, sink = first(finished, "/segments-"), io.BytesIO()
    for table in ({"key": ["a"]}, {"key": [None], "sha256": [b"0" * 32], "fault": [None]}, {"x": [1]}):
        sink.seek(0)
        pq.write_table(pa.table(table), sink)
        finished.put(key, sink.getvalue())
        assert ("altered", key) in said(finished)


@pytest.mark.parametrize("part", ["/segments-", "/table.parquet"])
def test_a_flipped_byte_anywhere_in_a_file_of_the_table_ends_nothing(finished: Store, part: str) -> None:
    key = first(finished, part)
    whole = finished.get(key)
    for at in random.Random(part).sample(range(len(whole)), 25):
        finished.put(key, whole)
        flip(finished, key, at)
        assert ("altered", key) in said(finished), at
