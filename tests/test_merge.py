import random

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import merge, result
from runner.result import Result
from tests.test_plan import planned

HEADER = {"plan": "p", "lot": 0, "round": 1, "writer": "w"}


def segment(*results: Result, **header) -> bytes:
    return result.encode_segment({**HEADER, **header}, results)


def ok(slot: str, throughput: float = 1.0, **more) -> Result:
    values = {"epoch": 0, "status": "ok", "started_at": "2026-01-01", "device_s": 1.0, **more}
    return Result(slot=slot, throughput_images_s=throughput, latency_p95_s=1 / throughput, **values)


def test_a_segment_comes_back_as_it_was():
    results = merge.read_results([("a", segment(ok("s", 2.5), ok("t"), tools={"x": "1"}))])
    rows = results.table.to_pylist()
    assert [(r["slot"], r["throughput_images_s"], r["round"], r["tools"]) for r in rows] == [
        ("s", 2.5, 1, '{"x":"1"}'),
        ("t", 1.0, 1, '{"x":"1"}'),
    ]


def test_a_damaged_segment_is_named_and_the_others_count():
    whole = segment(ok("s"))
    results = merge.read_results(
        [("cut", whole[:-9]), ("good", whole), ("empty", b""), ("flipped", whole[:20] + b"\xff" + whole[21:])]
    )
    assert results.segments == ("good",)
    assert set(results.damaged) == {"cut", "empty", "flipped"}


verdicts = st.sampled_from(["ok", "infeasible", "failed"])
rows = st.tuples(
    st.sampled_from("abc"), st.integers(0, 2), verdicts, st.sampled_from(["1", "2"]), st.integers(1, 3)
)


@settings(max_examples=50, deadline=None)
@given(st.lists(rows, min_size=1, max_size=12), st.integers())
def test_the_winner_follows_the_rule_whatever_the_order(listed, seed):
    def read(order):
        parts = [
            (f"{n}", segment(ok(s, epoch=e, status=v, started_at=at), round=r, writer=f"w{n}"))
            for n, (s, e, v, at, r) in order
        ]
        return merge.winners(merge.read_results(parts).table)

    numbered = list(enumerate(listed))
    shuffled = random.Random(seed).sample(numbered, len(numbered))
    columns = ["slot", "epoch", "status", "round", "started_at", "writer"]
    first = read(numbered).select(columns).to_pylist()
    assert first == read(shuffled).select(columns).to_pylist()
    for row in first:
        rivals = [
            (-e, result.VERDICTS.index(v), r, at) for _, (s, e, v, at, r) in numbered if s == row["slot"]
        ]
        assert min(rivals) == (
            -row["epoch"],
            result.VERDICTS.index(row["status"]),
            row["round"],
            row["started_at"],
        )


def test_every_wanted_slot_has_a_row_with_its_status():
    made = planned(grid={"cores": [1, 7], "instances": [1, 4]})
    slots = [t.slot for t in made.tasks()]
    data = segment(ok(slots[0], 10.0), ok(slots[1], status="failed", reason="time-limit", stage="run"))
    table = merge.merge(made, merge.read_results([("a", data)]))
    assert table.num_rows == made.table.num_rows
    assert merge.counts(table) == {"ok": 1, "failed": 1, "infeasible": 0, "unfit": 2, "missing": 4}
    unfit = [r["message"] for r in table.to_pylist() if r["status"] == "unfit"]
    assert all("28 cores" in message for message in unfit)


def test_rivals_are_ranked_by_their_objective_and_ties_said():
    made = planned(
        models=["resnet50"], objectives=["best-throughput", "best-latency"], grid={"cores": [1, 2, 4]}
    )
    by_cell = {(t.cell.cores, t.cell.batch_size): t.slot for t in made.tasks()}
    results = []
    for (cores, _), slot in by_cell.items():
        results.append(ok(slot, 100.0 * cores, throughput_ci95_images_s=150.0 if cores > 1 else 1.0))
    table = merge.merge(made, merge.read_results([("a", segment(*results))]))
    throughput = {
        r["cores"]: (r["rank"], r["tie"]) for r in table.to_pylist() if r["objective"] == "best-throughput"
    }
    assert throughput == {1: (3, False), 2: (2, True), 4: (1, True)}
    latency = {r["cores"]: r["rank"] for r in table.to_pylist() if r["objective"] == "best-latency"}
    assert latency[4] == 1


def test_nothing_measured_yet():
    made = planned()
    table = merge.merge(made, merge.read_results([]))
    assert set(table["status"].to_pylist()) == {"missing"}
    assert isinstance(table, pa.Table)
