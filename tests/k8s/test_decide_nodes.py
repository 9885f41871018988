"""Nodes: lost, struck out, pinned to, waited for."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from tests.k8s.world import MERGE, PLAN, World, environment, node, world


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


NOT_THE_BAD_NODE = [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["bad-node"]}]


def after_two_strikes(*well: str) -> tuple[World, dict[str, Any]]:
    """The world in its second wave, and where that may run: bad-node has failed both of its pods in the first one,
    of which others were on the nodes `well`."""
    at = world({**PLAN, "canary": 0, "lots": 8, "binaries": 0, "exports": 0})
    at.passes()
    at.finish(at.created[0])
    at.passes()
    first = at.unfinished("measure")[0]["metadata"]["name"]
    at.finish(first)
    at.jobs[first]["status"]["failed"] = 2
    for name in well:
        at.pod(first, phase="Succeeded", exit_code=0, node=name)
    for _ in range(2):
        at.pod(first, phase="Failed", exit_code=3, node="bad-node")
    at.passes()
    (second,) = at.unfinished("measure")
    return at, second["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]


def test_two_strikes_exclude_a_node_from_the_next_wave():
    at, where = after_two_strikes("good-node")
    (term,) = where["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == NOT_THE_BAD_NODE
    assert at.sweep["status"]["excludedNodes"] == ["bad-node"]
    assert "NodeExcluded" in at.events
    assert "bad-node failed 2 times in round 1" in at.told


def test_an_edit_forgets_what_pods_of_the_spec_before_did():
    """They may have failed for what it mends, e.g. a device group that is another one on that node."""
    at, _ = after_two_strikes("good-node")
    at.plans, at.merges = (
        [{**PLAN, "plan": "b" * 32, "canary": 0, "lots": 8, "binaries": 0, "exports": 0}],
        [MERGE],
    )
    at.edit(pods={"deviceGroup": 44})
    at.passes()
    at.finish(at.unfinished("plan")[0]["metadata"]["name"])
    status = at.passes().status
    assert "excludedNodes" not in status
    for job in at.unfinished("measure"):
        assert "affinity" not in job["spec"]["template"]["spec"]
    assert at.unfinished("measure")


def test_a_struck_node_is_the_last_choice_where_no_other_is_known():
    """It may be the only one: a wave that may run nowhere waits for ever."""
    at, where = after_two_strikes()
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in where
    (term,) = where["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["preference"]["matchExpressions"] == NOT_THE_BAD_NODE
    assert at.sweep["status"]["excludedNodes"] == ["bad-node"]
    assert at.run()["phase"] == "Complete"


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
