"""One pass: what is asked of the server, in which order, and what a server that refuses leaves behind."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from k8s import names, prune
from k8s.actions import Create, Decision, Delete, Event, Patch
from k8s.api import Api, Object
from k8s.api_errors import Conflict, Unavailable
from k8s.events import Teller
from k8s.observe import Observed
from k8s.reconcile import Blocked, NotLeading, Reconciler, blocked_status
from k8s.resources import JOBS, SWEEPS
from k8s.status import SweepStatus
from k8s.watch import Cache
from tests.k8s.standin import StandIn, api_of, refusal, standing_in
from tests.k8s.world import DEFAULTS, node, sweep

KEY = ("bench", "cnn")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLANNING = {"phase": "Planning", "conditions": []}


def job(
    name: str, *, uid: str = "", owner: str = "u-1", stage: str = names.PLAN, ended: bool = False
) -> Object:
    conditions = [{"type": "Complete", "status": "True"}] if ended else []
    return {
        "metadata": {
            "namespace": "bench",
            "name": name,
            "uid": uid or f"uid-{name}",
            "labels": {names.MANAGED_BY: names.MANAGER, names.LABEL_STAGE: stage},
            "ownerReferences": [{"kind": "Sweep", "name": "cnn", "uid": owner, "controller": True}],
        },
        "spec": {},
        "status": {"conditions": conditions},
    }


def pod(of: Object, name: str, **message: Any) -> Object:
    ended = {"terminated": {"exitCode": 0, "message": json.dumps(message)}}
    return {
        "metadata": {
            "namespace": "bench",
            "name": name,
            "uid": f"uid-{name}",
            "labels": {
                "batch.kubernetes.io/job-name": of["metadata"]["name"],
                "batch.kubernetes.io/controller-uid": of["metadata"]["uid"],
            },
        },
        "spec": {},
        "status": {"phase": "Succeeded", "containerStatuses": [{"name": "aicsweep", "state": ended}]},
    }


class Desk:
    """A Sweep on a server, a reconciler before it, and what the decision will be."""

    def __init__(self, server: StandIn, api: Api, reconciler: Callable[..., Reconciler]) -> None:
        self.server, self.api = server, api
        self.sweeps, self.jobs = Cache(prune.sweep), Cache(prune.job)
        self.decision = Decision(PLANNING)
        self.leading = True
        self.seen: list[Observed] = []
        self.reconcile = reconciler(
            api, self.sweeps, self.jobs, Teller(api, "me"), DEFAULTS, lambda: self.leading, decide=self.decide
        )

    def decide(self, sweep: Any, seen: Observed, *_: Any) -> Decision:
        self.seen.append(seen)
        return copy.deepcopy(self.decision)

    async def has(self, plural: str, found: Object) -> Object:
        """It is on the server, and in the cache if there is one."""
        found = await self.server.put(plural, found)
        cache = {"sweeps": self.sweeps, "jobs": self.jobs}.get(plural)
        if cache is not None:
            cache.seen("ADDED", found)
        return found

    async def passes(self, *actions: Any, events: tuple[Event, ...] = (), **more: Any) -> float | None:
        self.decision = Decision(PLANNING, list(actions), list(events), **more)
        return await self.reconcile(KEY)

    def on_server(self, plural: str = "sweeps", name: str = "cnn") -> Any:
        return self.server.objects.get((plural, "bench", name))

    def status(self) -> Any:
        return self.on_server()["status"]

    def condition(self, name: str = "Progressing") -> Any:
        return next(c for c in self.status()["conditions"] if c["type"] == name)

    def told(self) -> list[str]:
        return [found["reason"] for (plural, *_), found in self.server.objects.items() if plural == "events"]


@asynccontextmanager
async def at_desk(**spec: Any) -> AsyncIterator[Desk]:
    async with standing_in() as server, api_of(server) as api:
        desk = Desk(server, api, Reconciler)
        await desk.has("sweeps", sweep(**spec))
        yield desk


# --- acting


async def test_actions_in_order_then_the_status_then_events() -> None:
    async with at_desk() as desk:
        old = await desk.has("jobs", job("old"))
        await desk.passes(
            Create(job("new")),
            Patch("new", {"spec": {"parallelism": 3}}),
            Delete("old", old["metadata"]["uid"]),
            events=(Event("Normal", "Round", "2 begins"),),
        )
        assert desk.server.calls == [
            ("create", "jobs"),
            ("patch", "jobs"),
            ("delete", "jobs"),
            ("patch", "sweeps"),
            ("create", "events"),
        ]
        assert desk.on_server("jobs", "new")["spec"] == {"parallelism": 3}
        assert desk.on_server("jobs", "old") is None
        assert desk.status() == PLANNING


async def test_what_was_written_is_known_before_the_watch_brings_it() -> None:
    async with at_desk() as desk:
        await desk.passes(Create(job("new")))
        assert [found["metadata"]["name"] for found in desk.jobs.owned_by("u-1")] == ["new"]
        assert desk.sweeps.get(KEY)["status"] == PLANNING  # type: ignore[index]
        await desk.passes(Patch("new", {"spec": {"parallelism": 3}}))
        assert desk.jobs.owned_by("u-1")[0]["spec"] == {"parallelism": 3}


async def test_a_status_that_did_not_change_is_not_written() -> None:
    async with at_desk() as desk:
        await desk.passes()
        await desk.passes()
        assert desk.server.verbs("sweeps") == ["patch"]
        desk.decision = Decision({**PLANNING, "phase": "Measuring"})
        await desk.reconcile(KEY)
        assert desk.server.verbs("sweeps") == ["patch", "patch"]


async def test_an_empty_status_is_none() -> None:
    async with at_desk() as desk:
        desk.decision = Decision({})
        await desk.reconcile(KEY)
        assert desk.server.calls == []


async def test_when_to_look_again_is_handed_on() -> None:
    async with at_desk() as desk:
        assert await desk.passes(requeue_s=12.5) == 12.5
        assert await desk.passes() is None


async def test_a_sweep_that_is_gone_needs_nothing() -> None:
    async with at_desk() as desk:
        await desk.passes()
        desk.sweeps.seen(
            "DELETED", {**sweep(), "metadata": {**sweep()["metadata"], "resourceVersion": "999"}}
        )
        desk.server.calls.clear()
        assert await desk.reconcile(KEY) is None
        assert desk.server.calls == []
        assert desk.reconcile._ended == {}


async def test_one_deleted_during_its_pass_is_no_failure() -> None:
    async with at_desk() as desk:
        await desk.server.remove("sweeps", *KEY)
        assert await desk.passes() is None


async def test_the_status_of_one_of_that_name_made_since_is_left_alone() -> None:
    async with at_desk() as desk:
        await desk.server.remove("sweeps", *KEY)
        again = sweep()
        again["metadata"]["uid"] = "u-2"
        await desk.server.put("sweeps", again)
        with pytest.raises(Conflict):
            await desk.passes(events=(Event("Normal", "Complete", "x"),))
        assert "status" not in desk.on_server()
        assert desk.told() == []


# --- a name that is taken


async def test_a_job_of_ours_that_is_there_already_is_success() -> None:
    async with at_desk() as desk:
        await desk.server.put("jobs", job("new", uid="there"))
        await desk.passes(Create(job("new")), Create(job("next")))
        assert desk.jobs.get(("bench", "new"))["metadata"]["uid"] == "there"  # type: ignore[index]
        assert desk.on_server("jobs", "next")
        assert desk.status() == PLANNING


@pytest.mark.parametrize("owner", ["somebody else", ""])
async def test_a_foreign_job_is_named_and_left_alone(owner: str) -> None:
    async with at_desk() as desk:
        foreign = job("new", owner=owner)
        if not owner:
            del foreign["metadata"]["ownerReferences"]
        before = copy.deepcopy(await desk.server.put("jobs", foreign))
        with pytest.raises(Blocked, match="Job new is there and is not of this Sweep"):
            await desk.passes(Create(job("new")), Create(job("never")), events=(Event("Normal", "No", "x"),))
        assert desk.on_server("jobs", "new") == before
        assert desk.on_server("jobs", "never") is None
        assert len(desk.jobs) == 0
        assert desk.condition()["reason"] == "NameTaken"
        assert desk.condition()["status"] == "False"
        assert "Job new" in desk.status()["waiting"]
        assert desk.status()["phase"] == "Planning"
        assert desk.told() == ["NameTaken"]


async def test_one_that_lost_its_labels_is_named() -> None:
    async with at_desk() as desk:
        bare = job("new")
        bare["metadata"]["labels"] = {}
        await desk.server.put("jobs", bare)
        with pytest.raises(Blocked, match="has lost its labels"):
            await desk.passes(Create(job("new")))
        assert desk.condition()["reason"] == "LabelsLost"


async def test_what_is_blocked_is_told_once_and_its_time_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_desk() as desk:
        await desk.server.put("jobs", job("new", owner="somebody else"))
        progressing = {"type": "Progressing", "status": "True", "reason": "Planning", "message": "",
                       "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
        desk.decision = Decision({"phase": "Planning", "conditions": [progressing]}, [Create(job("new"))])
        for minute in range(3):
            desk.reconcile._now = lambda minute=minute: NOW.replace(minute=minute)  # type: ignore[misc]
            with pytest.raises(Blocked):
                await desk.reconcile(KEY)
        assert desk.server.verbs("sweeps") == ["patch"]
        assert desk.condition()["lastTransitionTime"] == "2026-01-01T00:00:00Z"
        assert desk.server.verbs("events") == ["create"]
        await desk.server.remove("jobs", "bench", "new")
        await desk.reconcile(KEY)
        assert desk.condition()["status"] == "True"
        assert "waiting" not in desk.status()


@pytest.mark.parametrize("answer", [403, 422])
async def test_what_the_server_will_not_do_is_told_in_its_words(answer: int) -> None:
    async with at_desk() as desk:
        desk.server.fail("create", "jobs", lambda: refusal(answer))
        with pytest.raises(Blocked):
            await desk.passes(Create(job("new")))
        assert desk.condition()["reason"] == "Refused"
        assert f"told to say {answer}" in desk.condition()["message"]
        assert desk.told() == ["Refused"]


def test_however_much_the_server_says_the_status_stays_within_its_schema() -> None:
    status = blocked_status(sweep(), PLANNING, Blocked("Refused", "x" * 100_000), NOW)
    SweepStatus.model_validate_json(json.dumps(status))


# --- what is decided from old news


async def test_deleting_or_patching_what_is_gone_is_success() -> None:
    async with at_desk() as desk:
        await desk.passes(Delete("gone", "uid-gone"), Patch("gone", {"spec": {}}), Create(job("new")))
        assert desk.on_server("jobs", "new")
        assert desk.status() == PLANNING


async def test_another_job_of_that_name_is_not_deleted() -> None:
    async with at_desk() as desk:
        await desk.server.put("jobs", job("again", uid="second"))
        await desk.passes(Delete("again", "first"))
        assert desk.on_server("jobs", "again")["metadata"]["uid"] == "second"


async def test_how_a_job_is_deleted() -> None:
    async with at_desk() as desk:
        for name, foreground in (("a", False), ("b", True)):
            await desk.server.put("jobs", job(name))
            await desk.passes(Delete(name, f"uid-{name}", foreground=foreground))
        deletions = [
            body for body in desk.server.bodies if isinstance(body, dict) and "preconditions" in body
        ]
        assert [body["propagationPolicy"] for body in deletions] == ["Background", "Foreground"]


# --- a server in trouble


@pytest.mark.parametrize("verb", ["create", "delete", "patch"])
async def test_no_answer_stops_the_pass_where_it_is(verb: str) -> None:
    actions = {"create": Create(job("new")), "delete": Delete("x", "u"), "patch": Patch("x", {})}
    async with at_desk() as desk:
        desk.server.fail(verb, "jobs", lambda: refusal(503))
        with pytest.raises(Unavailable):
            await desk.passes(actions[verb], Create(job("after")), events=(Event("Normal", "No", "x"),))
        assert desk.on_server("jobs", "after") is None
        assert "status" not in desk.on_server()
        assert desk.told() == []


@pytest.mark.parametrize("answer", [409, 503])
async def test_events_are_told_only_of_what_was_written(answer: int) -> None:
    async with at_desk() as desk:
        desk.server.fail("patch", "sweeps", lambda: refusal(answer))
        with pytest.raises((Conflict, Unavailable)):
            await desk.passes(events=(Event("Normal", "Complete", "x"),))
        assert desk.told() == []
        await desk.passes(events=(Event("Normal", "Complete", "x"),))
        assert desk.told() == ["Complete"]
        assert desk.status() == PLANNING


async def test_an_event_that_can_not_be_told_is_no_failure() -> None:
    async with at_desk() as desk:
        desk.server.fail("create", "events", lambda: refusal(403))
        assert await desk.passes(events=(Event("Normal", "A", "x"), Event("Normal", "B", "x"))) is None
        assert desk.told() == ["B"]


async def test_who_does_not_lead_writes_nothing() -> None:
    async with at_desk() as desk:
        desk.leading = False
        for actions in ((Create(job("new")),), (Delete("x", "u"),), (Patch("x", {}),), ()):
            with pytest.raises(NotLeading):
                await desk.passes(*actions)
        assert desk.server.calls == []


async def test_leading_is_asked_before_each_write() -> None:
    async with at_desk() as desk:

        def lost() -> web.StreamResponse:
            desk.leading = False
            return web.json_response(desk.on_server("jobs", "one"))

        desk.server.fail("create", "jobs", lost, done_first=True)
        with pytest.raises(NotLeading):
            await desk.passes(Create(job("one")), Create(job("two")))
        assert desk.server.calls == [("create", "jobs")]


# --- what is read


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


# --- cut off anywhere


PLAN = {"plan": "a" * 32, "lots": 6, "canary": 2, "exports": 1, "binaries": 6, "cells": 12, "slots": 12, "unfit": 0,
        "todo": 12, "most_slots_a_lot": 2, "device_s": 60.0, "compile_s": 60.0}  # fmt: skip
MERGED = {"table": "tables/t", "wanted": 0, "counts": {"ok": 12}, "device_s": {"measuring": 60.0}}


class CutOff(Exception):
    """The process was killed."""


class Flow:
    """A Sweep whose Jobs end as soon as nothing else happens, and controllers that are killed at the `cut`-th
    write: before the server got it, or after."""

    def __init__(self, server: StandIn, api: Api, cut: int, after: bool) -> None:
        self.server, self.api, self.after = server, api, after
        self.writes_left = cut
        self.kills = 0

    async def controller(self) -> None:
        """From empty caches until there is nothing to do."""
        sweeps, jobs = Cache(prune.sweep), Cache(prune.job)
        reconcile = Reconciler(
            self.api, sweeps, jobs, Teller(self.api, "me"), DEFAULTS, lambda: True, now=lambda: NOW
        )
        for _ in range(50):
            await sweeps.replace(self.api.pages(SWEEPS))
            await jobs.replace(self.api.pages(JOBS))
            before = self.server.version
            again_s = await reconcile(KEY)
            if self.server.version == before and again_s != 0:
                return
        raise AssertionError("never at rest")

    def cut(self) -> None:
        original = self.api._send

        async def send(call: Any, *args: Any, **kwargs: Any) -> Any:
            if call.verb in ("create", "patch", "delete"):
                self.writes_left -= 1
                if self.writes_left == 0:
                    self.kills += 1
                    if self.after:
                        await original(call, *args, **kwargs)
                    raise CutOff
            return await original(call, *args, **kwargs)

        self.api._send = send  # type: ignore[method-assign]

    async def end_a_job(self) -> bool:
        for (plural, *_), found in list(self.server.objects.items()):
            if plural == "jobs" and not found.get("status", {}).get("conditions"):
                stage = found["metadata"]["labels"][names.LABEL_STAGE]
                said = {names.PLAN: PLAN, names.MERGE: MERGED}.get(stage, {})
                await self.server.put("pods", pod(found, f"{found['metadata']['name']}-pod", **said))
                count = found["spec"].get("completions", 1)
                found["status"] = {
                    "succeeded": count,
                    "completedIndexes": f"0-{count - 1}",
                    "conditions": [
                        {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                    ],
                }
                await self.server.put("jobs", found)
                return True
        return False

    async def to_the_end(self) -> None:
        self.cut()
        while True:
            try:
                await self.controller()
            except CutOff:
                continue
            if not await self.end_a_job():
                return


async def flow(cut: int, after: bool) -> tuple[set[str], Any, Flow]:
    async with standing_in() as server, api_of(server) as api:
        await server.put("sweeps", sweep(limits={"parallelism": 1}))
        run = Flow(server, api, cut, after)
        await run.to_the_end()
        jobs = {name for plural, _, name in server.objects if plural == "jobs"}
        return jobs, server.objects["sweeps", "bench", "cnn"]["status"], run


def test_killed_at_any_write_the_next_one_ends_what_it_began() -> None:
    async def all_of_them() -> int:
        undisturbed, status, run = await flow(0, after=False)
        writes = -run.writes_left
        assert status["phase"] == "Complete"
        for cut in range(1, writes + 1):
            for after in (False, True):
                jobs, ended, run = await flow(cut, after)
                assert run.kills == 1
                assert jobs == undisturbed
                assert ended == status
        return writes

    # Every write of the flow: Jobs, statuses, events.
    assert asyncio.run(all_of_them()) >= 15
