"""A table is proven, and whatever is done to an object of its store is named. Damage is done to real stores."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from runner import artifacts, cli, engine, merge, standing, tables
from runner.proof import Proof
from runner.store import Store, open_store
from runner.stored import located, sweep_folders
from runner.verify import verify
from tests.samples import Silent, place, sweep

GRID = {"cores": [1, 2, 7], "instances": [1, 2]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object of a store with a finished sweep of several segments."""
    at = place(tmp_path_factory.mktemp("whole"), sweep(grid=GRID, limits={"lotMinutes": 8}))
    engine.run(at)
    return {entry.key: at.root.get(entry.key) for entry in at.root.list()}


@pytest.fixture
def root(tmp_path: Path, whole: dict[str, bytes]) -> Store:
    store = open_store(str(tmp_path / "copy"))
    for key, data in whole.items():
        store.put(key, data)
    return store


def proof_of(root: Store) -> Proof:
    (prefix,) = sweep_folders(root)
    return verify(root, prefix, Silent())


def said(root: Store) -> set[tuple[str, str]]:
    """(kind, key) of all findings."""
    return {(finding.kind, finding.key) for finding in proof_of(root).findings}


def first(root: Store, part: str) -> str:
    return next(entry.key for entry in root.list() if part in entry.key)


def flip(root: Store, key: str, at: int) -> None:
    data = bytearray(root.get(key))
    data[at] ^= 1
    root.put(key, bytes(data))


def remove(root: Store, key: str) -> None:
    path = root.local_path(key)
    assert path is not None
    path.unlink()


def test_a_finished_sweep_is_proven(root: Store) -> None:
    proof = proof_of(root)
    assert proof.findings == []
    assert (proof.rows, proof.plans, proof.segments, proof.artifacts) == (12, 1, 4, 8)


def test_a_flipped_byte_anywhere_in_a_segment_is_said_of_that_segment(root: Store) -> None:
    segment = first(root, "/results/")
    whole = root.get(segment)
    # Each header byte, some of the middle (of which zstd itself may notice nothing), the end.
    for at in [*range(12), len(whole) // 2, len(whole) - 1]:
        root.put(segment, whole)
        flip(root, segment, at)
        assert {key for kind, key in said(root) if kind == "altered"} == {segment}, at
    root.put(segment, whole)
    assert proof_of(root).proven


def test_a_segment_with_another_number_names_itself_and_the_cell_of_the_table(root: Store) -> None:
    segment = first(root, "/results/")
    text = zstandard.ZstdDecompressor().decompress(root.get(segment))
    rows = text.splitlines(keepends=True)
    slot = rows[2].split(b",")[0].strip(b'"').decode()
    column = rows[1].split(b",").index(b'"throughput_images_s"')
    fields = rows[2].split(b",")
    fields[column] = b"123456.0"
    rows[2] = b",".join(fields)
    root.put(segment, zstandard.ZstdCompressor(write_checksum=True).compress(b"".join(rows)))
    found = proof_of(root).findings
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
def test_whatever_is_cut_short_or_gone_is_named(root: Store, part: str, kind: str) -> None:
    key = first(root, part)
    data = root.get(key)
    root.put(key, data[: len(data) // 2])
    assert (kind, key) in said(root)
    remove(root, key)
    assert ("missing", key) in said(root)
    root.put(key, data)
    assert proof_of(root).proven


@pytest.mark.parametrize("part", ["artifacts/export/", "artifacts/binary/"])
def test_a_manifest_of_an_artefact_cut_short_gone_or_of_a_newer_aicsweep(root: Store, part: str) -> None:
    key = next(e.key for e in root.list() if e.key.startswith(part) and e.key.endswith("manifest.json"))
    root.put(key, b"{")
    assert said(root) == {("altered", key)}
    root.put(key, b'{"schema_number": 2}')
    assert said(root) == {("unproven", key)}
    remove(root, key)
    assert said(root) == {("missing", key)}


def test_a_graph_made_anew_that_is_another_is_not_the_one_that_was_measured(root: Store) -> None:
    key = next(e.key for e in root.list("artifacts/export") if e.key.endswith("manifest.json"))
    graph = next(e.key for e in root.list(key.rpartition("/")[0]) if e.key.endswith("model.onnx"))
    manifest = orjson.loads(root.get(key))
    other = b"another graph"
    manifest["files"]["model.onnx"] = {"size_bytes": len(other), "sha256": hashlib.sha256(other).hexdigest()}
    root.put(key, orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS))
    made = artifacts.find(root, "export", manifest["key"])
    assert made is not None
    root.put(made.files["model.onnx"].object_key, other)
    assert graph != made.files["model.onnx"].object_key
    (finding,) = proof_of(root).findings
    assert finding.key == key
    assert "is not the graph that 6 results came from" in finding.message


def test_what_came_after_the_merge_is_unmerged_and_merging_proves_it(root: Store) -> None:
    segment = first(root, "/results/")
    late = segment.replace("-0.csv", "-77.csv") if "-0.csv" in segment else segment.replace(".csv", "7.csv")
    root.put(late, root.get(segment))
    assert said(root) == {("unmerged", late)}
    merge_again(root)
    assert proof_of(root).proven


def merge_again(root: Store) -> None:
    (prefix,) = sweep_folders(root)
    home = root.at(prefix)
    current = orjson.loads(home.get(tables.CURRENT))
    engine.merge_(home, engine.stored_plan(home, current["plan"]))


def test_a_segment_that_was_damaged_when_it_was_merged_stays_named(root: Store) -> None:
    segment = first(root, "/results/")
    root.put(segment, root.get(segment)[:-5])
    merge_again(root)
    assert said(root) == {("damaged", segment)}


def test_a_table_that_is_not_the_one_of_its_results(root: Store) -> None:
    """Somebody edits a number, and mends every digest so that it fits."""
    (prefix,) = sweep_folders(root)
    home = root.at(prefix)
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
    found = proof_of(root).findings
    assert {finding.kind for finding in found} == {"differs"}
    assert "column throughput_images_s" in found[0].message
    assert "7 more rows" in found[-1].message


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
    root: Store, damage: Callable[[dict], object], kind: str
) -> None:
    key = next(e.key for e in root.list("sweeps") if e.key.endswith("manifest.json"))
    manifest = json.loads(root.get(key))
    damage(manifest)
    root.put(key, orjson.dumps(manifest))
    assert kind in {kind for kind, _ in said(root)}


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
    root: Store, name: str, damage: Callable[[dict], object]
) -> None:
    key = next(e.key for e in root.list("sweeps") if e.key.endswith(name))
    record = json.loads(root.get(key))
    damage(record)
    root.put(key, orjson.dumps(record))
    assert ("altered", key) in said(root)
    (prefix,) = sweep_folders(root)
    stands = standing.of(root, prefix)
    (damaged,) = stands.damaged
    assert key == f"{prefix}/{damaged}"
    assert "none yet" not in standing.as_text(stands)
    cli.cli(["merge", root.url], standalone_mode=False)
    assert proof_of(root).proven


@pytest.mark.parametrize("data", [b"[]", b"5", b"", b"\xff\xfe", b'"x"'])
@pytest.mark.parametrize("name", ["current.json", "manifest.json"])
def test_a_record_of_other_bytes_is_named(root: Store, name: str, data: bytes) -> None:
    key = next(e.key for e in root.list("sweeps") if e.key.endswith(name))
    root.put(key, data)
    assert ("altered", key) in said(root)


def test_a_manifest_that_is_gone_is_not_taken_for_no_table(root: Store) -> None:
    (prefix,) = sweep_folders(root)
    remove(root, next(e.key for e in root.list("sweeps") if e.key.endswith("manifest.json")))
    found = standing.of(root, prefix)
    assert found.table.startswith("tables/")
    (why,) = found.damaged.values()
    assert "is not whole" in why


def test_a_list_of_segments_with_other_columns_is_named(root: Store) -> None:
    key, sink = first(root, "/segments-"), io.BytesIO()
    for table in ({"key": ["a"]}, {"key": [None], "sha256": [b"0" * 32], "fault": [None]}, {"x": [1]}):
        sink.seek(0)
        pq.write_table(pa.table(table), sink)
        root.put(key, sink.getvalue())
        assert ("altered", key) in said(root)


@pytest.mark.parametrize("part", ["/segments-", "/table.parquet"])
def test_a_flipped_byte_anywhere_in_a_file_of_the_table_ends_nothing(root: Store, part: str) -> None:
    key = first(root, part)
    whole = root.get(key)
    for at in random.Random(part).sample(range(len(whole)), 25):
        root.put(key, whole)
        flip(root, key, at)
        assert ("altered", key) in said(root), at


def test_segments_are_listed_once(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    list_ = Store.list
    monkeypatch.setattr(Store, "list", lambda store, prefix="": listed.append(prefix) or list_(store, prefix))
    assert proof_of(root).proven
    assert listed.count("results") == 1


def test_a_sweep_without_its_current_table_is_found_and_said(root: Store) -> None:
    key = first(root, "current.json")
    remove(root, key)
    assert said(root) >= {("missing", key)}


@pytest.mark.parametrize("damage", [None, b"{"])
@pytest.mark.parametrize("part", ["current.json", "/manifest.json", "/segments-"])
def test_where_it_is_not_known_what_was_merged_only_that_is_said(
    root: Store, part: str, damage: bytes | None
) -> None:
    """Not that every segment came later, nor that every row differs; and what is wrong besides is still found."""
    key = next(entry.key for entry in root.list("sweeps") if part in entry.key)
    if damage is None:
        remove(root, key)
    else:
        root.put(key, damage)
    kind = "missing" if damage is None else "altered"
    assert said(root) == {(kind, key)}
    segment = first(root, "/results/")
    root.put(segment, root.get(segment)[:-5])
    graph = first(root, "model.onnx")
    flip(root, graph, 0)
    assert said(root) == {(kind, key), ("damaged", segment), ("altered", graph)}


def test_results_that_may_have_come_later_are_not_held_against_the_table(root: Store) -> None:
    """A segment was not there when the table was merged, and then the list of what was is gone."""
    segment = first(root, "/results/")
    data = root.get(segment)
    remove(root, segment)
    merge_again(root)
    root.put(segment, data)
    (prefix,) = sweep_folders(root)
    table = json.loads(root.get(f"{prefix}/current.json"))["table"]
    key = first(root, f"{table}/segments-")
    remove(root, key)
    assert said(root) == {("missing", key)}


def test_a_list_of_segments_that_is_gone_is_said_where_the_manifest_has_no_digest_of_it(root: Store) -> None:
    key = first(root, "/segments-")
    name = next(entry.key for entry in root.list("sweeps") if entry.key.endswith("/manifest.json"))
    manifest = json.loads(root.get(name))
    del manifest["files"][key.rpartition("/")[2]]
    root.put(name, orjson.dumps(manifest))
    remove(root, key)
    assert said(root) == {("missing", key)}


def test_a_segment_of_a_hundred_megabytes_is_refused_unread(root: Store) -> None:
    segment = first(root, "/results/")
    path = root.local_path(segment.replace(".csv", "9.csv"))
    assert path is not None
    with path.open("wb") as file:
        file.truncate(100_000_000)
    (prefix,) = sweep_folders(root)
    results = engine.read_results(root.at(prefix))
    (words,) = results.damaged.values()
    assert "100,000,000 bytes" in words
    plan = engine.stored_plan(root.at(prefix), first(root, "/plans/")[-40:-8])
    assert merge.counts(merge.merge(plan, results))["ok"] == 12


def test_a_path_is_a_store_a_sweeps_folder_or_what_holds_several(root: Store, tmp_path: Path) -> None:
    (prefix,) = sweep_folders(root)
    for path in ("", f"/{prefix}", f"/{prefix}/", "/sweeps/local", "/sweeps"):
        store, found = located(f"{tmp_path}/copy{path}")
        assert (store.url, found) == (root.url, [prefix])
    assert located(str(tmp_path / "nowhere"))[1] == []


def test_a_store_may_lie_below_a_folder_that_is_called_sweeps(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sweeps/q3", "sweeps/sweeps"):
        store = open_store(str(tmp_path / name))
        for key, data in whole.items():
            store.put(key, data)
        (prefix,) = sweep_folders(store)
        for path in (store.url, f"{store.url}/{prefix}"):
            found, prefixes = located(path)
            assert (found.url, prefixes) == (store.url, [prefix]), path
    monkeypatch.chdir(store.url)
    found, prefixes = located(prefix)
    assert prefixes == [prefix]
    assert verify(found, prefix, Silent()).proven


def test_of_two_readings_of_a_path_the_store_is_meant(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A sweep called `plans` makes its namespace look as the folder of a sweep in a store that lies higher."""
    store = open_store(str(tmp_path / "sweeps" / "q3"))
    for key, data in whole.items():
        store.put(key.replace("/sample/", "/plans/"), data)
    found, prefixes = located(store.url)
    assert (found.url, prefixes) == (store.url, ["sweeps/local/default/plans/1"])


@pytest.mark.parametrize("part", range(4))
def test_a_cluster_or_a_sweep_may_be_called_sweeps(
    tmp_path: Path, whole: dict[str, bytes], part: int
) -> None:
    store = open_store(str(tmp_path / "store"))
    names = ["local", "default", "sample", "1"]
    names[part] = "sweeps"
    for key, data in whole.items():
        store.put(key.replace("sweeps/local/default/sample/1", "/".join(["sweeps", *names])), data)
    for depth in range(5):
        path = "/".join([store.url, "sweeps", *names[:depth]])
        found, prefixes = located(path)
        assert (found.url, prefixes) == (store.url, ["/".join(["sweeps", *names])]), path
