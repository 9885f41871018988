"""What a pass reads of the server: pods of the Jobs that want it, nodes where each is to be measured."""

from __future__ import annotations

import json

import pytest

from k8s import names
from k8s.reconcile import Blocked
from k8s.status import SweepStatus
from tests.k8s.desk import KEY, PLANNING, at_desk, job, pod
from tests.k8s.standin import refusal
from tests.k8s.world import node, sweep


async def test_pods_are_read_of_the_jobs_that_want_it_and_no_other() -> None:
    async with at_desk() as desk:
        plan, measure = job("plan", ended=True), job("measure", stage=names.MEASURE)
        for each in (plan, measure):
            await desk.has("jobs", each)
        await desk.server.put("pods", pod(plan, "p1", plan="d1"))
        await desk.server.put("pods", pod(measure, "p2"))
        # Left of a Job of the same name that was there before.
        before = job("plan", uid="before")
        await desk.server.put("pods", pod(before, "p0", plan="d0"))
        await desk.passes()
        seen = desk.seen[-1].jobs
        assert [found.message for found in seen["plan"].pods] == [{"plan": "d1"}]
        assert seen["measure"].pods == ()


async def test_pods_of_an_ended_job_are_read_once() -> None:
    async with at_desk() as desk:
        plan = await desk.has("jobs", job("plan", ended=True))
        await desk.passes()
        assert desk.seen[-1].jobs["plan"].pods == ()
        # None yet is not known for good.
        await desk.server.put("pods", pod(plan, "p1", plan="d1"))
        for _ in range(3):
            await desk.passes()
            assert desk.seen[-1].jobs["plan"].message() == {"plan": "d1"}
        assert desk.server.verbs("pods") == ["list"] * 2
        # A Job run again is another one.
        desk.jobs.seen("DELETED", {**plan, "metadata": {**plan["metadata"], "resourceVersion": "999"}})
        await desk.passes()
        assert desk.reconcile._ended[KEY] == {}


async def test_pods_of_a_job_under_way_are_read_each_time() -> None:
    async with at_desk() as desk:
        measure = job("measure", stage=names.MEASURE)
        measure["status"] = {"active": 1, "ready": 0}
        await desk.has("jobs", measure)
        await desk.server.put("pods", pod(measure, "p"))
        await desk.passes()
        await desk.passes()
        assert desk.server.verbs("pods") == ["list"] * 2


async def test_many_jobs_are_asked_for_in_several_requests() -> None:
    async with at_desk() as desk:
        for number in range(120):
            each = await desk.has("jobs", job(f"plan-{number}", ended=True))
            await desk.server.put("pods", pod(each, f"p-{number}", n=number))
        await desk.passes()
        assert desk.server.verbs("pods") == ["list"] * 3
        assert sorted(found.message()["n"] for found in desk.seen[-1].jobs.values()) == list(range(120))  # type: ignore[index]


async def test_nodes_are_read_where_each_is_to_be_measured_and_not_for_each_pass() -> None:
    async with at_desk() as desk:
        await desk.server.put("nodes", node("n1", 4))
        await desk.passes()
        assert desk.server.verbs("nodes") == []
    async with at_desk(placement="everyNode", pods={"measureNodeSelector": {"row": "7"}}) as desk:
        await desk.server.put("nodes", node("n1", 4, row="7"))
        await desk.server.put("nodes", node("n2", 4, row="8"))
        for _ in range(3):
            await desk.passes()
        assert desk.seen[-1].nodes == {"n1": 4}
        assert desk.server.verbs("nodes") == ["list"]


async def test_a_controller_that_may_not_list_nodes_says_so_where_its_user_looks() -> None:
    async with at_desk(placement="everyNode") as desk:
        desk.server.fail("list", "nodes", lambda: refusal(403))
        with pytest.raises(Blocked, match="placement everyNode must list nodes"):
            await desk.passes()
        assert desk.condition()["reason"] == "Refused"
        assert "told to say 403" in desk.status()["waiting"]
        SweepStatus.model_validate_json(json.dumps(desk.status()))
        desk.server.heal()
        await desk.passes()
        assert desk.status() == PLANNING


async def test_nodes_are_not_read_for_what_is_over_or_can_not_be_used() -> None:
    async with at_desk(placement="everyNode") as desk:
        over = {"type": "Complete", "status": "True"}
        await desk.has("sweeps", {**sweep(placement="everyNode"), "status": {"conditions": [over]}})
        await desk.passes()
        assert desk.server.verbs("nodes") == []
    async with at_desk(placement="everyWhere", pods=7) as desk:
        await desk.passes()
        assert desk.server.verbs("nodes") == []
