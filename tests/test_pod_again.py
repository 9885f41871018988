"""Pods that are tried again, and slots that are measured again."""

import pytest

from tests.pod_tables import statuses
from tests.pods import Cluster


def test_an_index_that_is_tried_again_repeats_nothing(cluster):
    cluster.make_plan()
    cluster.build()
    first = cluster.measure(0)
    before = [entry.key for entry in cluster.home.list("results")]
    assert cluster.measure(0).message == first.message == {"done": 3, "failed": 0}
    assert [entry.key for entry in cluster.home.list("results")] == before


def hanging(cluster: Cluster, lot: int, position: int) -> dict[str, object]:
    """A fault that makes one slot of a lot hang."""
    cell = cluster.planned.lot(lot)[position].cell
    where = {name: getattr(cell, name) for name in ("cores", "instances", "source")}
    return {"stage": "run", "where": where, "verdict": "hang"}


def test_a_pod_that_is_asked_to_end_keeps_what_it_has_and_the_next_does_the_rest(tmp_path, cluster):
    cluster.make_plan()
    cluster.build()
    cluster.fake = {"faults": [hanging(cluster, 0, 2)]}
    running = cluster.indexed("measure", 0)
    running.wait_for("hangs")
    running.terminate()
    ended = running.end()
    assert ended.code == 143
    assert ended.message["reason"] == "terminated"
    kept = cluster.results()
    assert kept.headers["writer"].to_pylist() == ["pod-8-measure"]
    assert kept.table.num_rows == 2
    cluster.fake = {}
    assert cluster.measure(0).message == {"done": 3, "failed": 0}
    slots = cluster.results().table["slot"].to_pylist()
    assert len(slots) == len(set(slots)) == 3


@pytest.mark.parametrize("stage", ["export", "compile"])
def test_export_and_compile_end_when_asked(cluster, stage):
    cluster.make_plan()
    if stage == "compile":
        cluster.indexed("export", 0).end()
        cluster.indexed("export", 1).end()
    cluster.fake = {"faults": [{"stage": stage, "verdict": "hang"}]}
    running = cluster.indexed(stage, 0)
    running.wait_for("hangs")
    running.terminate()
    assert running.end().code == 143


def test_what_hangs_comes_last_when_it_is_tried_again(cluster):
    cluster.make_plan()
    cluster.build()
    cluster.fake = {"faults": [hanging(cluster, 0, 0)]}
    for done in (0, 2):
        running = cluster.indexed("measure", 0)
        running.wait_for("hangs")
        running.terminate()
        assert running.end().code == 143
        assert cluster.results().table.num_rows == done


def test_two_pods_of_one_index_give_each_slot_its_row_once(cluster):
    cluster.make_plan()
    cluster.build()
    ended = [running.end() for running in [cluster.indexed("measure", 0) for _ in range(2)]]
    assert [each.code for each in ended] == [0, 0]
    cluster.merge()
    assert statuses(cluster.table()) == {"ok": 3, "missing": 9}


def test_a_request_is_settled_by_the_plan_pod_once_and_said(cluster):
    cluster.fake = {"faults": [{"stage": "run", "where": {"cores": 7}, "reason": "garbage"}]}
    cluster.make_plan()
    cluster.build()
    cluster.measure_lots()
    cluster.merge()
    cluster.fake = {}
    cluster.spec |= {"again": [{"id": "a", "where": "status == 'failed' and instances == 1"}]}
    cluster.make_plan()
    assert (cluster.plan["again"], cluster.plan["todo"]) == (2, 4)
    # Round 1 of another generation, or the message was lost: it has chosen already.
    again = cluster.make_plan().message
    assert again == {name: value for name, value in cluster.plan.items() if name != "again"}
    cluster.build()
    cluster.measure_lots()
    assert cluster.merge()["wanted"] == 0
    rows = {
        (row["cores"], row["instances"], row["epoch"], row["status"]) for row in cluster.table().to_pylist()
    }
    assert {row for row in rows if row[0] == 7} == {(7, 1, 1, "ok"), (7, 2, 0, "ok")}
    # What was tried again because rounds were left is not of the request.
    assert {row[2] for row in rows if row[0] != 7} == {0}


@pytest.mark.parametrize("execution", ["split", "combined"])
def test_compile_pods_ask_again_whichever_lot_the_request_chose(cluster, execution):
    """Its binary is made by the first lot that needs it: that of a slot that came with an edit."""
    cluster.fake = {
        "faults": [
            {"stage": "compile", "where": {"cores": 2}, "verdict": "infeasible", "reason": "no-memory"}
        ]
    }
    cluster.spec |= {"models": ["resnet50"], "grid": {"cores": [2], "instances": [1, 2]}}
    cluster.make_plan()
    cluster.build()
    cluster.measure_lots()
    cluster.merge()
    cluster.fake = {}
    cluster.spec |= {
        "grid": {"cores": [2], "instances": [1, 2, 3, 4, 5, 6]},
        "limits": {"lotMinutes": 1},
        "again": [{"id": "a", "where": "status == 'infeasible'"}],
    }
    cluster.make_plan()
    tasks = cluster.planned.by_lot()
    assert {len(lot) for lot in tasks.values()} == {1}
    assert sorted(task.epoch for (task,) in tasks.values()) == [0, 0, 0, 0, 1, 1]
    if execution == "split":
        cluster.build()
    for lot in tasks:
        assert cluster.measure(lot, AICSWEEP_EXECUTION=execution).code == 0
    cluster.merge()
    assert statuses(cluster.table()) == {"ok": 6}


def test_a_request_that_cannot_be_is_code_2_with_its_place(cluster):
    cluster.spec |= {"again": [{"id": "a", "where": "True"}, {"id": "b", "where": "coars == 1"}]}
    ended = cluster.make_plan()
    assert ended.code == 2
    assert "spec.again[1].where: 'coars' is no column of the table" in ended.message["error"]
    cluster.spec |= {"again": [{"id": "a", "where": "cores = 1"}]}
    ended = cluster.make_plan()
    assert ended.code == 2
    assert "spec.again[0].where: 'cores = 1' is no condition" in ended.message["error"]
