"""What people do to a Sweep while it runs or after: suspend, edit, delete."""

from __future__ import annotations

from datetime import timedelta

from k8s.actions import Create, Delete
from tests.k8s.world import PLAN, condition, world


def test_suspending_ends_work_and_resuming_plans_anew():
    at = world()
    at.begin_measuring()
    assert at.unfinished("measure")
    at.sweep["spec"]["suspend"] = True
    at.passes()
    assert not at.unfinished()
    status = at.sweep["status"]
    assert status["phase"] == "Suspended"
    assert condition(status, "Suspended")["status"] == "True"
    at.sweep["spec"]["suspend"] = False
    at.plans = [{**PLAN, "plan": "b" * 32, "lots": 3}]
    status = at.run()
    assert status["phase"] == "Complete"
    assert condition(status, "Suspended")["status"] == "False"
    assert len(at.names("plan")) == 2


def test_an_edit_ends_the_old_work_before_it_plans_anew():
    at = world()
    at.begin_measuring()
    running = [job["metadata"]["name"] for job in at.unfinished()]
    at.plans = [{**PLAN, "plan": "b" * 32}]
    at.edit(models=["resnet50", "resnet18"])
    decision = at.decide()
    assert sorted(a.name for a in decision.actions if isinstance(a, Delete)) == sorted(running)
    assert not [a for a in decision.actions if isinstance(a, Create)], "what they still write is waited for"
    assert at.run()["phase"] == "Complete"
    assert at.sweep["status"]["observedGeneration"] == 2


def test_counts_of_an_edited_spec_are_not_told_of_the_new_one():
    """Fewer slots may be done of it: the count would fall. A suspended Sweep still shows what it had."""
    at = world()
    at.run()
    at.edit(suspend=True)
    assert at.passes().status["cells"]["done"] == 40
    at.edit(suspend=False, models=["resnet18"])
    assert "cells" not in at.passes().status
    at.plans = [{**PLAN, "plan": "b" * 32, "slots": 20, "todo": 10, "lots": 5}]
    at.finish(at.unfinished()[0]["metadata"]["name"])
    assert at.passes().status["cells"] == {"total": 20, "unfit": 3, "done": 10}


def test_old_work_that_never_goes_is_not_waited_for_without_end():
    at = world()
    at.begin_measuring()
    at.edit(models=["resnet18"])
    for job in at.unfinished():
        job["metadata"]["deletionTimestamp"] = at.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert not at.decide().actions
    at.now += timedelta(minutes=5)
    assert any(isinstance(a, Create) for a in at.decide().actions)


def test_the_end_is_sticky_until_the_next_generation_and_children_go_after_the_ttl():
    at = world(limits={"parallelism": 1, "ttlSecondsAfterFinished": 600})
    status = at.run()
    decision = at.passes()
    assert decision.requeue_s == 600
    assert at.jobs
    at.jobs.clear()
    assert not at.decide().actions, "children that are gone do not start it over"
    at = world(limits={"parallelism": 1, "ttlSecondsAfterFinished": 600})
    status = at.run()
    at.now += timedelta(seconds=601)
    at.passes()
    assert not at.jobs
    assert at.sweep["status"] == status


def test_a_spec_that_cannot_be_used_is_said_with_every_problem_and_repaired_by_an_edit():
    at = world(models=["resnet5O"], grid={"cores": [0]})
    at.passes()
    status = at.sweep["status"]
    assert not at.created
    assert condition(status, "Valid")["status"] == "False"
    assert "spec.models[0]" in status["message"]
    assert "spec.grid.cores[0]" in status["message"]
    assert at.events == ["Invalid"]
    at.edit(models=["resnet50"], grid={})
    assert at.run()["phase"] == "Complete"


def test_a_deleted_sweep_is_left_to_the_garbage_collector():
    at = world()
    at.passes()
    at.finish(at.created[0])
    assert at.decide().actions
    at.sweep["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not at.decide().actions
