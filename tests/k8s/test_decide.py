"""The flow of a Sweep in a cluster of memory, whatever happens to it."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k8s import names
from k8s.actions import Create, Delete
from k8s.child import Defaults
from k8s.decide import decide
from k8s.observe import Observed
from tests.k8s.world import MERGE, PLAN, SMALL, START, World, condition, environment, sweep, world


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
