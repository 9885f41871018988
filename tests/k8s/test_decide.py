"""The flow of a Sweep in a cluster of memory, whatever happens to it."""

from __future__ import annotations

import json
import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k8s import names
from k8s.actions import Create, Delete
from k8s.decide import decide
from k8s.jobs import Defaults
from k8s.observe import Observed
from tests.k8s.world import START, World, node, sweep

PLAN = {"plan": "a" * 32, "lots": 10, "canary": 2, "exports": 2, "binaries": 20, "cells": 40, "slots": 40, "unfit": 3,
        "todo": 40, "most_slots_a_lot": 5, "device_s": 6000.0, "compile_s": 900.0}  # fmt: skip
MERGE = {
    "table": "tables/t1",
    "wanted": 0,
    "counts": {"ok": 40, "unfit": 3},
    "device_s": {"measuring": 5000.0},
}
SMALL = {"limits": {"parallelism": 1}}


def condition(status, name):
    return next((c for c in status["conditions"] if c["type"] == name), None)


def environment(job):
    return {e["name"]: e.get("value") for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}


def world(plan=PLAN, merge=MERGE, **spec) -> World:
    return World([plan], [merge], **{**SMALL, **spec})


def test_a_sweep_runs_from_plan_to_table():
    at = world()
    status = at.run()
    assert at.names("plan") == ["plan"]
    assert at.names("export") == ["export"]
    # Two canary lots, then waves of four.
    assert at.names("compile") == ["compile-0", "compile-1", "compile-2"]
    assert at.names("measure") == ["measure-0", "measure-1", "measure-2"]
    assert at.names("merge") == ["merge"]
    assert status["phase"] == "Complete"
    assert condition(status, "Complete")["reason"] == "AllMeasured"
    assert status["cells"] == {
        "total": 40,
        "unfit": 3,
        "done": 40,
        "ok": 40,
        "failed": 0,
        "infeasible": 0,
        "missing": 0,
    }
    assert status["tableUrl"] == "s3://bench/aicsweep/sweeps/local/bench/cnn/1/tables/t1"
    assert status["deviceSeconds"]["used"] == 5000
    assert len(json.dumps(status)) < 4096


def test_every_lot_is_in_one_measure_job():
    at = world({**PLAN, "lots": 57})
    at.run()
    lots = []
    for name in at.created:
        job = at.jobs[name]
        if at.stage(job) == names.MEASURE:
            env = environment(job)
            lots += range(int(env["AICSWEEP_FIRST"]), int(env["AICSWEEP_FIRST"]) + job["spec"]["completions"])
    assert lots == list(range(57))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 4), st.integers(1, 5), st.integers(0, 30), st.integers())
def test_whatever_ends_first_the_end_is_reached_within_the_parallelism(
    lots, canary, parallelism, binaries, seed
):
    plan = {**PLAN, "lots": lots, "canary": min(canary, lots), "binaries": binaries}
    at = World([plan], [MERGE], limits={"parallelism": parallelism})
    choice = random.Random(seed)
    status = at.run(choice.choice)
    assert status["phase"] == "Complete"
    assert at.most_at_once <= parallelism
    assert len(at.created) == len(set(at.created))


def test_what_is_still_wanted_makes_a_round_and_rounds_are_limited():
    again = {**MERGE, "wanted": 4, "counts": {"ok": 36, "missing": 4}}
    second, third = {**PLAN, "plan": "b" * 32, "lots": 1}, {**PLAN, "plan": "c" * 32, "lots": 1}
    at = World([PLAN, second, third], [again, again, again], **SMALL)
    status = at.run()
    assert at.names("plan") == ["plan"] * 3
    assert status["round"] == 3
    assert condition(status, "Complete")["reason"] == "SomeFailed"
    assert at.events.count("Round") == 2


@pytest.mark.parametrize(("slots", "words"), [(2, "2 slots to be"), (0, "nothing to be")])
def test_a_finished_sweep_goes_on_when_asked_again_and_tells_once_what_was_chosen(slots, words):
    more = {**PLAN, "plan": "b" * 32, "lots": min(1, slots), "todo": slots, "again": slots}
    at = World([PLAN, more], [MERGE, MERGE], **SMALL)
    at.run()
    at.edit(again=[{"id": "a", "where": "status == 'failed'"}])
    status = at.run()
    assert at.names("plan") == ["plan", "plan"]
    assert (status["phase"], status["cells"]["done"]) == ("Complete", 40)
    assert at.events.count("Again") == 1
    assert f"{words} measured again, as spec.again asks" in at.told
    last = [name for name in at.created if name.endswith("-plan")][-1]
    assert json.loads(environment(at.jobs[last])["AICSWEEP_SWEEP"])["spec"]["again"][0]["id"] == "a"


def test_what_could_not_be_measured_again_is_no_good_end():
    """Every slot shows a number, an old one: the rounds are over, and two are wanted still."""
    at = World([PLAN], [{**MERGE, "wanted": 2}], limits={"parallelism": 1, "rounds": 1})
    complete = condition(at.run(), "Complete")
    assert complete["reason"] == "SomeFailed"
    assert complete["message"] == "40 ok, 3 unfit; 2 of them still to be measured again"


def test_nothing_left_to_do_is_merged_at_once():
    at = world({**PLAN, "lots": 0, "todo": 0})
    assert at.run()["phase"] == "Complete"
    assert [at.stage(at.jobs[name]) for name in at.created] == ["plan", "merge"]


def test_without_binaries_or_combined_there_is_no_compile_job():
    at = world({**PLAN, "binaries": 0})
    at.run()
    assert at.names("compile") == []
    at = world(execution="combined")
    at.run()
    assert at.names("compile") == at.names("export") == []
    assert len(at.names("measure")) == 3


def failed_canary(**merge) -> World:
    at = world(merge={**MERGE, **merge}, limits={"parallelism": 16})
    at.passes()
    at.finish(at.created[0])
    at.passes()
    at.finish(at.created[1])
    at.passes()
    at.finish(next(n for n in at.jobs if n.endswith("compile-0")))
    at.passes()
    assert at.names("measure") == ["measure-0"]
    assert at.names("compile") == ["compile-0", "compile-1"], "the next wave is compiled meanwhile"
    at.finish(next(n for n in at.jobs if n.endswith("compile-1")))
    at.passes()
    assert at.names("measure") == ["measure-0"], "and is not measured before the canary has ended"
    at.finish(next(n for n in at.jobs if n.endswith("measure-0")), indexes=[0, 1])
    return at


def test_the_canary_ends_before_other_waves_begin_and_stops_the_sweep_if_all_of_it_failed():
    at = failed_canary(counts={"failed": 10, "missing": 30}, wanted=30)
    status = at.run()
    assert at.names("measure") == ["measure-0"]
    assert status["phase"] == "Failed"
    assert condition(status, "Failed")["reason"] == "CanaryFailed"
    assert status["tableUrl"], "what was measured is in a table all the same"


def test_a_canary_whose_pods_were_killed_by_some_of_its_points_stops_nothing():
    """The lots failed as a whole, but the table has results: the rest follows in the next round."""
    at = failed_canary(counts={"ok": 6, "failed": 2, "missing": 32}, wanted=32)
    at.plans = [{**PLAN, "plan": "b" * 32, "round": 2}]
    at.merges.append(MERGE)
    assert at.run()["phase"] == "Complete"
    assert at.sweep["status"]["round"] == 2


def test_a_canary_without_any_verdict_is_tried_again_in_the_next_round():
    """The store was away for all of it."""
    nothing = {"counts": {"missing": 40}, "wanted": 40}
    at = failed_canary(**nothing)
    at.plans = [{**PLAN, "plan": "b" * 32}]
    at.merges.append(MERGE)
    assert at.run()["phase"] == "Complete"
    at = failed_canary(**nothing)
    at.sweep["spec"]["limits"]["rounds"] = 1
    status = at.run()
    assert condition(status, "Failed")["reason"] == "CanaryFailed", "but not for ever"


def test_a_canary_that_fails_in_part_stops_nothing():
    at = world()
    for _ in range(3):
        at.passes()
        at.finish(at.unfinished()[0]["metadata"]["name"])
    at.passes()
    at.finish(next(n for n in at.jobs if n.endswith("measure-0")), indexes=[1])
    assert at.run()["phase"] == "Complete"


def test_over_budget_no_wave_begins_and_the_table_is_made():
    at = world(limits={"parallelism": 1, "maxDeviceHours": 1.2})
    status = at.run()
    # 10 lots of 600 s; 2 + 4 lots are an hour, 4 more would be 1.7 hours.
    assert at.names("measure") == ["measure-0", "measure-1"]
    assert condition(status, "OverBudget")["status"] == "True"
    assert condition(status, "Failed")["reason"] == "OverBudget"
    assert "maxDeviceHours is 1.2" in status["message"]
    at.plans, at.merges = [{**PLAN, "plan": "b" * 32, "lots": 4, "device_s": 2400.0}], [MERGE]
    at.edit(limits={"parallelism": 1, "maxDeviceHours": 10})
    assert at.run()["phase"] == "Complete"


def test_over_budget_from_the_beginning_nothing_is_exported_and_the_table_is_made():
    at = world(limits={"parallelism": 1, "maxDeviceHours": 0.3})
    at.passes()
    at.finish(at.created[0])
    at.passes()
    assert condition(at.sweep["status"], "OverBudget")["status"] == "True"
    assert "the next wave needs about 0.3" in condition(at.sweep["status"], "OverBudget")["message"]
    status = at.run()
    assert [at.stage(at.jobs[name]) for name in at.created] == ["plan", "merge"]
    assert condition(status, "Failed")["reason"] == "OverBudget"
    assert status["tableUrl"]


def test_the_budget_of_pinned_jobs_is_that_of_all_together():
    plan = {**PLAN, "canary": 0, "targets": {"n0": [0, 5], "n1": [5, 5]}}
    for hours, phase in ((1.6, "Failed"), (1.7, "Complete")):
        limits = {"parallelism": 1, "maxDeviceHours": hours}
        at = World([plan], [MERGE], nodes=2, placement="everyNode", limits=limits)
        assert at.run()["phase"] == phase
        assert len(at.names("measure")) == (0 if phase == "Failed" else 2)


def test_the_budget_counts_lots_under_way():
    """Two lots of 10 minutes are measured, and as many are left: half an hour is not enough for all."""
    plan = {**PLAN, "canary": 2, "lots": 4, "device_s": 2400.0}
    at = world(plan, limits={"parallelism": 4, "maxDeviceHours": 0.5})
    while not at.unfinished("measure"):
        at.passes()
        at.finish(at.unfinished()[0]["metadata"]["name"])
        at.passes()
    assert condition(at.sweep["status"], "OverBudget")["status"] == "True"
    assert at.run()["phase"] == "Failed"
    assert at.names("measure") == ["measure-0"]


def test_the_budget_counts_earlier_rounds():
    again = {**MERGE, "wanted": 10, "counts": {"ok": 30, "missing": 10}, "device_s": {"measuring": 3000.0}}
    second = {**PLAN, "plan": "b" * 32, "canary": 0, "lots": 3, "device_s": 1800.0}
    at = World(
        [{**PLAN, "lots": 5, "device_s": 3000.0}, second],
        [again, {**again, "wanted": 10}],
        limits={"parallelism": 1, "maxDeviceHours": 1},
    )
    status = at.run()
    assert (status["round"], condition(status, "Failed")["reason"]) == (2, "OverBudget")
    assert "0.8 device-hours are used" in status["message"]


def test_a_failed_canary_is_told_as_such_also_where_the_rest_is_over_budget():
    at = failed_canary(counts={"failed": 10, "missing": 30}, wanted=30)
    at.sweep["spec"]["limits"]["maxDeviceHours"] = 0.4
    assert condition(at.run(), "Failed")["reason"] == "CanaryFailed"


def test_without_any_store_nothing_begins():
    seen, nowhere = Observed(), Defaults()
    decision = decide(sweep(), seen, START, nowhere)
    assert not decision.actions
    assert "spec.results.url" in decision.status["message"]
    assert decide(sweep(results={"url": "s3://bench/x"}), seen, START, nowhere).actions


@pytest.mark.parametrize("stage", ["plan", "export", "compile", "measure", "merge"])
def test_bad_input_that_every_pod_meets_fails_the_sweep_with_its_message(stage):
    at = world()
    at.passes()
    while not any(at.stage(job) == stage for job in at.unfinished()):
        at.finish(at.unfinished()[0]["metadata"]["name"])
        at.passes()
    name = next(job["metadata"]["name"] for job in at.unfinished(stage))
    at.finish(name, {"error": "spec.models: no such file"}, failed="PodFailurePolicy")
    status = at.run()
    assert status["phase"] == "Failed"
    assert "no such file" in status["message"]
    assert condition(status, "Failed")["reason"] == "BadInput"
    assert not at.unfinished(), "nothing runs on"


@pytest.mark.parametrize("stage", ["plan", "merge"])
def test_a_lost_message_runs_the_job_again(stage):
    at = world()
    at.passes()
    while not any(at.stage(job) == stage for job in at.unfinished()):
        at.finish(at.unfinished()[0]["metadata"]["name"])
        at.passes()
    job = at.unfinished(stage)[0]
    at.finish(job["metadata"]["name"], {})
    assert at.run()["phase"] == "Complete"
    assert len(at.names(stage)) == 2
    assert "MessageLost" in at.events


def test_a_job_deleted_behind_its_back_is_made_again():
    at = world()
    at.passes()
    at.finish(at.created[0])
    at.passes()
    at.finish(next(n for n in at.jobs if n.endswith("export")))
    at.passes()
    gone = next(n for n in at.jobs if n.endswith("compile-0"))
    del at.jobs[gone]
    at.passes()
    assert gone in at.jobs
    assert at.run()["phase"] == "Complete"


def test_a_plan_made_again_with_other_lots_ends_the_work_of_the_one_before():
    """Its Job was deleted by hand; by now there are results, so fewer lots are wanted."""
    at = world()
    while not at.unfinished("measure"):
        at.passes()
        at.finish(at.unfinished()[0]["metadata"]["name"])
        at.passes()
    old = {job["metadata"]["name"] for job in at.unfinished()}
    plan = at.created[0]
    del at.jobs[plan], at.pods[plan]
    at.plans = [{**PLAN, "plan": "b" * 32}]
    at.passes()
    at.finish(at.unfinished("plan")[0]["metadata"]["name"])
    decision = at.decide()
    assert {action.name for action in decision.actions if isinstance(action, Delete)} == old
    assert not [action for action in decision.actions if isinstance(action, Create)]
    assert at.run()["phase"] == "Complete"


def test_suspending_ends_work_and_resuming_plans_anew():
    at = world()
    for _ in range(3):
        at.passes()
        at.finish(at.unfinished()[0]["metadata"]["name"])
    at.passes()
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
    for _ in range(3):
        at.passes()
        at.finish(at.unfinished()[0]["metadata"]["name"])
    at.passes()
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
    for _ in range(3):
        at.passes()
        at.finish(at.unfinished()[0]["metadata"]["name"])
    at.passes()
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


def test_a_lost_node_ends_its_wave_and_is_excluded():
    at = world({**PLAN, "canary": 0, "lots": 8, "binaries": 0, "exports": 0}, limits={"parallelism": 2})
    at.passes()
    at.finish(at.created[0])
    at.passes()
    name = at.unfinished("measure")[0]["metadata"]["name"]
    job = at.jobs[name]
    job["status"] = {"active": 0, "ready": 0, "terminating": 1, "completedIndexes": "0-6"}
    at.pod(name, phase="Running", node="n7", deleted_at=at.now)
    at.pod(name, phase="Succeeded", exit_code=0, node="n8")
    at.passes()
    assert at.names("merge") == [], "it may still end"
    at.now += timedelta(minutes=5)
    decision = at.passes()
    assert at.names("merge") == ["merge"]
    assert decision.status["excludedNodes"] == ["n7"]


def test_two_strikes_exclude_a_node_from_the_next_wave():
    at = world({**PLAN, "canary": 0, "lots": 8, "binaries": 0, "exports": 0})
    at.passes()
    at.finish(at.created[0])
    at.passes()
    first = at.unfinished("measure")[0]["metadata"]["name"]
    at.finish(first)
    at.jobs[first]["status"]["failed"] = 2
    at.pod(first, phase="Succeeded", exit_code=0, node="good-node")
    for _ in range(2):
        at.pod(first, phase="Failed", exit_code=3, node="bad-node")
    at.passes()
    second = at.unfinished("measure")[0]
    terms = second["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    listed = terms["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0][
        "matchExpressions"
    ]
    assert listed == [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["bad-node"]}]
    assert at.sweep["status"]["excludedNodes"] == ["bad-node"]
    assert "NodeExcluded" in at.events


def test_every_device_pins_a_job_to_each_node_and_an_unreached_one_is_given_up():
    targets = {"n0": [0, 5], "n1": [5, 5]}
    plan = {**PLAN, "canary": 0, "targets": targets}
    at = World(
        [plan], [MERGE], nodes=2, placement="everyDevice", limits={"parallelism": 9, "placementMinutes": 10}
    )
    at.passes()
    env = {
        e["name"]: e.get("value")
        for e in at.jobs[at.created[0]]["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert json.loads(env["AICSWEEP_TARGETS"]) == [{"node": "n0", "devices": 2}, {"node": "n1", "devices": 2}]
    for _ in range(3):
        at.finish(at.unfinished()[0]["metadata"]["name"])
        at.passes()
    assert at.names("measure") == ["measure-0-0", "measure-0-1"]
    here, there = (at.jobs[n] for n in at.created if "measure" in n)
    assert (
        here["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["qualcomm.com/qaic"] == "2"
    )
    at.finish(here["metadata"]["name"])
    there["status"] = {"active": 1, "ready": 0}
    at.pod(there["metadata"]["name"], phase="Pending", waiting="0/2 nodes are available: 1 Insufficient qaic")
    decision = at.passes()
    assert "Insufficient" in decision.status["waiting"]
    assert at.names("merge") == []
    at.now += timedelta(minutes=11)
    at.passes()
    merge = at.jobs[next(n for n in at.created if n.endswith("merge"))]
    env = environment(merge)
    assert "Insufficient" in json.loads(env["AICSWEEP_UNREACHED"])["n1"]
    assert at.run()["phase"] == "Complete"
    assert not at.unfinished()


def test_more_nodes_than_a_message_has_room_for():
    plan = {**PLAN, "canary": 0, "lots": 6, "lots_per_node": 2}
    at = World([plan], [MERGE], nodes=3, placement="everyNode", limits={"parallelism": 9})
    assert at.run()["phase"] == "Complete"
    assert at.jobs[next(n for n in at.created if "compile" in n)]["spec"]["completions"] == 2
    pinned = [at.jobs[n] for n in at.created if "measure" in n]
    assert [(environment(job)["AICSWEEP_FIRST"], job["spec"]["completions"]) for job in pinned] == [
        ("0", 2), ("2", 2), ("4", 2),
    ]  # fmt: skip


def test_why_pods_wait_is_asked_again_without_news_of_their_job():
    """A kubelet may say for the first time after minutes that a Secret or an image is missing."""
    at = world()
    at.passes()
    (job,) = at.unfinished("plan")
    job["status"]["ready"] = 0
    assert at.decide().requeue_s == 5
    at.now += timedelta(minutes=2)
    assert at.decide().requeue_s == 30
    at.now += timedelta(hours=2)
    assert at.decide().requeue_s == 60
    job["status"]["ready"] = 1
    assert at.decide().requeue_s is None


def test_without_a_device_node_it_waits_and_says_for_what():
    at = World([PLAN], [MERGE], placement="everyNode")
    decision = at.passes()
    assert not at.created
    assert "no ready node offers qualcomm.com/qaic" in decision.status["waiting"]
    at.nodes.append(node("n0"))
    at.passes()
    assert at.names("plan") == ["plan"]


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


def test_with_kueue_jobs_are_labelled_and_parallelism_is_left_alone():
    at = world(pods={"queueName": "bench"}, limits={"parallelism": 3})
    at.passes()
    assert all(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "bench" for job in at.jobs.values())
    at.run()


def test_counts_never_fall_before_the_merge():
    at = world({**PLAN, "canary": 0, "lots": 8, "binaries": 0, "exports": 0}, limits={"parallelism": 2})
    at.passes()
    at.finish(at.created[0])
    at.passes()
    job = at.unfinished("measure")[0]
    seen = []
    for done in ("", "0-2", "0-5", "0-4", "0-6"):
        job["status"]["completedIndexes"] = done
        at.passes()
        seen.append(at.sweep["status"]["cells"]["done"])
    assert seen == [0, 15, 30, 30, 35]
