"""What stops a Sweep early: a canary that fails, a budget that is used up."""

from __future__ import annotations

from tests.k8s.world import MERGE, PLAN, World, condition, world


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
    at.begin_measuring()
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
