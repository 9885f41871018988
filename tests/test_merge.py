import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import merge, result
from runner.plan import Past, still_wanted
from runner.result import Result
from runner.segments import parse_segments
from tests.test_plan import planned

HEADER = {"plan": "p", "lot": 0, "round": 1, "writer": "w"}


def segment(*results: Result, **header) -> bytes:
    return result.encode_segment({**HEADER, **header}, results)


def ok(slot: str, throughput: float = 1.0, **more) -> Result:
    values = {"epoch": 0, "status": "ok", "started_at": "2026-01-01", "device_s": 1.0, **more}
    return Result(slot=slot, throughput_images_s=throughput, latency_p95_s=1 / throughput, **values)


verdicts = st.sampled_from(["ok", "infeasible", "failed", "missing", "of the future"])
rows = st.fixed_dictionaries(
    {
        "slot": st.sampled_from("abc"),
        "epoch": st.integers(0, 2),
        "status": verdicts,
        "reason": st.sampled_from(["", "contended"]),
        "started_at": st.sampled_from(["1", "2"]),
    }
)
segments = st.lists(
    st.tuples(st.lists(rows, min_size=1, max_size=4), st.integers(1, 3), st.sampled_from("vw")), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(segments, st.randoms(use_true_random=False))
def test_the_winner_follows_the_rule_whatever_the_order(listed, random):
    parts = [
        (
            f"{n}",
            segment(*(ok(throughput=n * 10 + i + 1, **row) for i, row in enumerate(some)), round=r, writer=w),
        )
        for n, (some, r, w) in enumerate(listed)
    ]
    results = [
        {**row, "round": r, "writer": w, "throughput": n * 10 + i + 1}
        for n, (some, r, w) in enumerate(listed)
        for i, row in enumerate(some)
    ]

    def by_rule(row):
        known = result.VERDICTS.index(row["status"]) if row["status"] in result.VERDICTS else 9
        contended = row["reason"] == "contended"
        return (
            row["status"] == "missing",
            -row["epoch"],
            known,
            contended,
            row["round"],
            row["started_at"],
            row["writer"],
        )

    wanted = {slot: [row for row in results if row["slot"] == slot] for slot in "abc"}
    best = {slot: min(rivals, key=by_rule) for slot, rivals in wanted.items() if rivals}
    for order in (parts, random.sample(parts, len(parts))):
        found = parse_segments(order)
        won = merge.winners(found)
        throughput = found.table["throughput_images_s"].take(won.rows).to_pylist()
        assert dict(zip(won.slots.to_pylist(), throughput, strict=True)) == {
            slot: row["throughput"] for slot, row in best.items()
        }
        assert merge.past_of(found) == {
            slot: Past(row["status"], len(wanted[slot]), row["reason"]) for slot, row in best.items()
        }


def test_every_wanted_slot_has_a_row_with_its_status():
    made = planned(grid={"cores": [1, 7], "instances": [1, 4]})
    slots = [t.slot for t in made.tasks()]
    data = segment(ok(slots[0], 10.0), ok(slots[1], status="failed", reason="time-limit", stage="run"))
    table = merge.merge(made, parse_segments([("a", data)]))
    assert table.num_rows == made.table.num_rows
    assert merge.counts(table) == {"ok": 1, "failed": 1, "infeasible": 0, "unfit": 2, "missing": 4}
    unfit = [r["message"] for r in table.to_pylist() if r["status"] == "unfit"]
    assert all("28 cores" in message for message in unfit)


def test_each_row_has_the_result_of_its_own_slot_and_what_its_segment_says():
    made = planned(objectives=["best-throughput", "best-latency"])
    slots = [task.slot for task in made.tasks()]
    parts = [
        (f"{n}", segment(ok(slot, n + 1.0, device=f"d{n}"), lot=n, writer=f"w{n}", host=f"h{n % 2}"))
        for n, slot in enumerate(slots[:-1])
    ]
    table = merge.merge(made, parse_segments(reversed(parts)))
    assert table["slot"].to_pylist() == made.table.sort_by("row")["slot"].to_pylist()
    number = {slot: n for n, slot in enumerate(slots[:-1])}
    for row in table.to_pylist():
        n = number.get(row["slot"])
        found = [row[name] for name in ("throughput_images_s", "device", "lot", "writer", "host", "status")]
        if n is None:
            assert found == [None, None, None, None, None, row["status"]]
            assert row["status"] in ("missing", "unfit")
        else:
            assert found == [n + 1.0, f"d{n}", n, f"w{n}", f"h{n % 2}", "ok"]


def test_nothing_measured_yet():
    made = planned()
    table = merge.merge(made, parse_segments([]))
    assert set(table["status"].to_pylist()) == {"missing"}
    assert isinstance(table, pa.Table)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_what_another_round_would_measure_is_counted_slot_by_slot(data):
    made = planned(targets={"a/0": "a", "b/0": "b"}, grid={"cores": [1, 7], "instances": [1, 4]})
    reasons = st.sampled_from(["", "garbage", "killed", "wrong-output", "contended"])
    results = [
        ok(task.slot, status=data.draw(st.sampled_from(result.VERDICTS)), reason=data.draw(reasons))
        for task in made.tasks()
        for _ in range(data.draw(st.integers(0, 4)))
    ]
    found = parse_segments([(f"{n}", segment(one, writer=f"w{n}")) for n, one in enumerate(results)])
    past = merge.past_of(found)
    wanted = {task.slot: task.target for task in made.tasks() if still_wanted(past.get(task.slot), rounds=3)}
    assert merge.count_wanted(made, found) == len(wanted)
    assert merge.count_wanted(made, found, {"a"}) == list(wanted.values()).count("b/0")


def test_only_results_since_the_epoch_a_slot_is_wanted_in_count_as_tries():
    results = parse_segments(
        [("a", segment(*(ok("s", epoch=epoch) for epoch in (0, 0, 1, 2)), ok("t", status="failed")))]
    )
    assert merge.past_of(results) == {"s": Past("ok", 4), "t": Past("failed", 1)}
    assert merge.past_of(results, {"s": 1, "t": 1, "u": 2}) == {
        "s": Past("ok", 2, epoch=1), "t": Past("missing", 0, epoch=1), "u": Past("missing", 0, epoch=2),
    }  # fmt: skip
    assert merge.past_of(results, {"s": 3})["s"] == Past("missing", 0, epoch=3)
    assert results.table.num_rows == 5


def test_a_row_that_waits_for_a_new_result_keeps_its_warnings():
    slots = [task.slot for task in planned().tasks()][:3]
    made = planned({slot: Past("missing", 0, epoch=2) for slot in slots})
    data = segment(
        ok(slots[0], warnings="hot"),
        ok(slots[1], epoch=2),
        ok(slots[2], epoch=1),
        ok(slots[2], epoch=2, status="missing"),
    )
    table = merge.merge(made, parse_segments([("a", data)]))
    rows = {row["slot"]: row for row in table.to_pylist()}
    assert [(rows[slot]["epoch"], rows[slot]["warnings"], rows[slot]["status"]) for slot in slots] == [
        (0, "hot; wanted-again", "ok"), (2, "", "ok"), (1, "wanted-again", "ok"),
    ]  # fmt: skip
    assert merge.count_wanted_again(table) == 2
    assert {row["warnings"] for row in rows.values() if row["slot"] not in slots} == {None}
