"""One pass: what is asked of the server, in which order, and what a server that refuses leaves behind."""

from __future__ import annotations

import copy
import json

import pytest
from aiohttp import web

from k8s.actions import Create, Decision, Delete, Event, Patch
from k8s.api_errors import Conflict, Unavailable
from k8s.reconcile import Blocked, NotLeading, blocked_status
from k8s.status import SweepStatus
from tests.k8s.desk import KEY, NOW, PLANNING, at_desk, job
from tests.k8s.standin import refusal
from tests.k8s.world import sweep

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


async def test_a_status_is_not_written_over_one_that_was_not_seen() -> None:
    """The cache of a controller that has just taken over may be behind what the one before it wrote."""
    async with at_desk() as desk:
        found = desk.on_server()
        await desk.server.put("sweeps", {**found, "status": {"phase": "Complete", "conditions": []}})
        with pytest.raises(Conflict):
            await desk.passes(events=(Event("Normal", "No", "x"),))
        assert desk.status()["phase"] == "Complete"
        assert desk.told() == []
        desk.sweeps.seen("MODIFIED", desk.on_server())
        await desk.passes()
        assert desk.status() == PLANNING


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
