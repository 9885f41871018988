import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq

from runner import keys, merge, tables
from runner.segments import parse_segments
from runner.store import open_store
from tests.test_merge import ok, segment
from tests.test_plan import planned


def published(tmp_path, count=None):
    made = planned()
    results = parse_segments(
        [
            (f"{n}", segment(ok(task.slot, n + 1.0, device=f"d{n}")))
            for n, task in enumerate(made.tasks()[:count])
        ]
    )
    table = merge.merge(made, results)
    store = open_store(str(tmp_path))
    return store, tables.publish(store, made, results, table), table


def test_what_is_published_is_the_table_and_is_the_current_one(tmp_path):
    store, folder, table = published(tmp_path, 5)
    read, manifest = tables.read_current(store)
    assert read.to_pylist() == table.to_pylist()
    assert manifest.counts == merge.counts(table)
    assert manifest.segments.count == 5
    listed = pq.read_table(io.BytesIO(store.get(f"{folder}/{manifest.segments.file}"))).to_pylist()
    assert [row["key"] for row in listed] == [str(n) for n in range(5)]
    for name, sha256 in manifest.files.items():
        assert keys.digest_bytes(store.get(f"{folder}/{name}")) == sha256
    rows = list(csv.DictReader(io.StringIO(store.get(f"{folder}/table.csv").decode())))
    assert [row["slot"] for row in rows] == table["slot"].to_pylist()
    assert [row["device"] for row in rows] == [value or "" for value in table["device"].to_pylist()]
    frame = tables.to_frame(read)
    assert frame["rank"].notna().sum() == 5
    assert frame["model"].tolist() == table["model"].cast(pa.string()).to_pylist()


def test_the_same_results_give_the_same_table(tmp_path):
    _, first, _ = published(tmp_path / "a")
    _, second, _ = published(tmp_path / "b")
    assert first == second


def test_a_summary_has_every_row_or_the_best_ones_and_says_so(tmp_path, monkeypatch):
    _, _, table = published(tmp_path)
    every = tables.summary(table, "title")
    assert len([line for line in every.splitlines() if line.startswith("| ")]) == table.num_rows + 1
    monkeypatch.setattr(tables, "SUMMARY_ROWS", 4)
    lines = tables.summary(table, "title").splitlines()
    shown = [line for line in lines if line.startswith("| ")][1:]
    assert len(shown) == 4
    # Both models' winners, then both seconds.
    assert ["ok, best" in line for line in shown] == [True, True, False, False]
    assert f"The 4 best; {table.num_rows - 4} more rows" in lines[2]
