"""A table is proven, and whatever is done to an object of its store is named. Damage is done to real stores."""

from __future__ import annotations

import hashlib
import io
import json

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from runner import artifacts, engine, merge, tables
from runner.store import Store
from runner.stored import sweep_folders
from tests.finished import first, flip, merge_again, proof_of, remove, said


def test_a_finished_sweep_is_proven(finished: Store) -> None:
    proof = proof_of(finished)
    assert proof.findings == []
    assert (proof.rows, proof.plans, proof.segments, proof.artifacts) == (12, 1, 4, 8)


def test_a_flipped_byte_anywhere_in_a_segment_is_said_of_that_segment(finished: Store) -> None:
    segment = first(finished, "/results/")
    whole = finished.get(segment)
    # Each header byte, some of the middle (of which zstd itself may notice nothing), the end.
    for at in [*range(12), len(whole) // 2, len(whole) - 1]:
        finished.put(segment, whole)
        flip(finished, segment, at)
        assert {key for kind, key in said(finished) if kind == "altered"} == {segment}, at
    finished.put(segment, whole)
    assert proof_of(finished).proven


def test_a_segment_with_another_number_names_itself_and_the_cell_of_the_table(finished: Store) -> None:
    segment = first(finished, "/results/")
    text = zstandard.ZstdDecompressor().decompress(finished.get(segment))
    rows = text.splitlines(keepends=True)
    slot = rows[2].split(b",")[0].strip(b'"').decode()
    column = rows[1].split(b",").index(b'"throughput_images_s"')
    fields = rows[2].split(b",")
    fields[column] = b"123456.0"
    rows[2] = b",".join(fields)
    finished.put(segment, zstandard.ZstdCompressor(write_checksum=True).compress(b"".join(rows)))
    found = proof_of(finished).findings
    assert ("altered", segment) in {(finding.kind, finding.key) for finding in found}
    differing = [finding.message for finding in found if finding.kind == "differs"]
    assert any(
        slot in words and "throughput_images_s" in words and "123456.0" in words for words in differing
    )


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("/results/", "altered"),
        ("/plans/", "altered"),
        ("/table.parquet", "altered"),
        ("/table.csv", "altered"),
        ("/summary.md", "altered"),
        ("/segments-", "altered"),
        ("model.onnx", "altered"),
        ("programqpc.bin", "altered"),
    ],
)
def test_whatever_is_cut_short_or_gone_is_named(finished: Store, part: str, kind: str) -> None:
    key = first(finished, part)
    data = finished.get(key)
    finished.put(key, data[: len(data) // 2])
    assert (kind, key) in said(finished)
    remove(finished, key)
    assert ("missing", key) in said(finished)
    finished.put(key, data)
    assert proof_of(finished).proven


@pytest.mark.parametrize("part", ["artifacts/export/", "artifacts/binary/"])
def test_a_manifest_of_an_artefact_cut_short_gone_or_of_a_newer_aicsweep(finished: Store, part: str) -> None:
    key = next(e.key for e in finished.list() if e.key.startswith(part) and e.key.endswith("manifest.json"))
    finished.put(key, b"{")
    assert said(finished) == {("altered", key)}
    finished.put(key, b'{"schema_number": 2}')
    assert said(finished) == {("unproven", key)}
    remove(finished, key)
    assert said(finished) == {("missing", key)}


def test_a_graph_made_anew_that_is_another_is_not_the_one_that_was_measured(finished: Store) -> None:
    key = next(e.key for e in finished.list("artifacts/export") if e.key.endswith("manifest.json"))
    graph = next(e.key for e in finished.list(key.rpartition("/")[0]) if e.key.endswith("model.onnx"))
    manifest = orjson.loads(finished.get(key))
    other = b"another graph"
    manifest["files"]["model.onnx"] = {"size_bytes": len(other), "sha256": hashlib.sha256(other).hexdigest()}
    finished.put(key, orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS))
    made = artifacts.find(finished, "export", manifest["key"])
    assert made is not None
    finished.put(made.files["model.onnx"].object_key, other)
    assert graph != made.files["model.onnx"].object_key
    (finding,) = proof_of(finished).findings
    assert finding.key == key
    assert "is not the graph that 6 results came from" in finding.message


def test_what_came_after_the_merge_is_unmerged_and_merging_proves_it(finished: Store) -> None:
    segment = first(finished, "/results/")
    late = segment.replace("-0.csv", "-77.csv") if "-0.csv" in segment else segment.replace(".csv", "7.csv")
    finished.put(late, finished.get(segment))
    assert said(finished) == {("unmerged", late)}
    merge_again(finished)
    assert proof_of(finished).proven


def test_a_segment_that_was_damaged_when_it_was_merged_stays_named(finished: Store) -> None:
    segment = first(finished, "/results/")
    finished.put(segment, finished.get(segment)[:-5])
    merge_again(finished)
    assert said(finished) == {("damaged", segment)}


def test_a_table_that_is_not_the_one_of_its_results(finished: Store) -> None:
    """Somebody edits a number, and mends every digest so that it fits."""
    (prefix,) = sweep_folders(finished)
    home = finished.at(prefix)
    table, _ = tables.read_current(home)
    index = table.column_names.index("throughput_images_s")
    better = pa.array([value and value * 2 for value in table["throughput_images_s"].to_pylist()])
    sink = io.BytesIO()
    pq.write_table(table.set_column(index, "throughput_images_s", better), sink)
    digest = hashlib.sha256(sink.getvalue()).hexdigest()
    at = f"tables/{digest[:32]}"
    old = orjson.loads(home.get(tables.CURRENT))
    manifest = orjson.loads(home.get(f"{old['table']}/manifest.json"))
    for name in manifest["files"]:
        home.put(f"{at}/{name}", home.get(f"{old['table']}/{name}"))
    home.put(f"{at}/table.parquet", sink.getvalue())
    manifest["files"]["table.parquet"] = digest
    home.put(f"{at}/manifest.json", orjson.dumps(manifest))
    home.put(tables.CURRENT, orjson.dumps({**old, "table": at}))
    found = proof_of(finished).findings
    assert {finding.kind for finding in found} == {"differs"}
    assert "column throughput_images_s" in found[0].message
    assert "7 more rows" in found[-1].message


def test_segments_are_listed_once(finished: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    list_ = Store.list
    monkeypatch.setattr(Store, "list", lambda store, prefix="": listed.append(prefix) or list_(store, prefix))
    assert proof_of(finished).proven
    assert listed.count("results") == 1


def test_a_sweep_without_its_current_table_is_found_and_said(finished: Store) -> None:
    key = first(finished, "current.json")
    remove(finished, key)
    assert said(finished) >= {("missing", key)}


@pytest.mark.parametrize("damage", [None, b"{"])
@pytest.mark.parametrize("part", ["current.json", "/manifest.json", "/segments-"])
def test_where_it_is_not_known_what_was_merged_only_that_is_said(
    finished: Store, part: str, damage: bytes | None
) -> None:
    """Not that every segment came later, nor that every row differs; and what is wrong besides is still found."""
    key = next(entry.key for entry in finished.list("sweeps") if part in entry.key)
    if damage is None:
        remove(finished, key)
    else:
        finished.put(key, damage)
    kind = "missing" if damage is None else "altered"
    assert said(finished) == {(kind, key)}
    segment = first(finished, "/results/")
    finished.put(segment, finished.get(segment)[:-5])
    graph = first(finished, "model.onnx")
    flip(finished, graph, 0)
    assert said(finished) == {(kind, key), ("damaged", segment), ("altered", graph)}


def test_results_that_may_have_come_later_are_not_held_against_the_table(finished: Store) -> None:
    """A segment was not there when the table was merged, and then the list of what was is gone."""
    segment = first(finished, "/results/")
    data = finished.get(segment)
    remove(finished, segment)
    merge_again(finished)
    finished.put(segment, data)
    (prefix,) = sweep_folders(finished)
    table = json.loads(finished.get(f"{prefix}/current.json"))["table"]
    key = first(finished, f"{table}/segments-")
    remove(finished, key)
    assert said(finished) == {("missing", key)}


def test_a_list_of_segments_that_is_gone_is_said_where_the_manifest_has_no_digest_of_it(
    finished: Store,
) -> None:
    key = first(finished, "/segments-")
    name = next(entry.key for entry in finished.list("sweeps") if entry.key.endswith("/manifest.json"))
    manifest = json.loads(finished.get(name))
    del manifest["files"][key.rpartition("/")[2]]
    finished.put(name, orjson.dumps(manifest))
    remove(finished, key)
    assert said(finished) == {("missing", key)}


def test_a_segment_of_a_hundred_megabytes_is_refused_unread(finished: Store) -> None:
    segment = first(finished, "/results/")
    path = finished.local_path(segment.replace(".csv", "9.csv"))
    assert path is not None
    with path.open("wb") as file:
        file.truncate(100_000_000)
    (prefix,) = sweep_folders(finished)
    results = engine.read_results(finished.at(prefix))
    (words,) = results.damaged.values()
    assert "100,000,000 bytes" in words
    plan = engine.stored_plan(finished.at(prefix), first(finished, "/plans/")[-40:-8])
    assert merge.counts(merge.merge(plan, results))["ok"] == 12
