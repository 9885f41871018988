"""What happens to pods and to their nodes: the Sweep ends with the table of an undisturbed run all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from k8s import names
from tests.cluster.cluster import until
from tests.cluster.oracle import undisturbed
from tests.cluster.proxy import Answer
from tests.cluster.scene import SLOW_S, SMALL, Plays, Scene
from tests.cluster.shim import Fault

pytestmark = pytest.mark.cluster
STAGES = ("plan", "export", "compile", "measure", "merge")
play = Plays()


# -- pods


def _once_a_stage(scene: Scene, action: Any, **of: Any) -> None:
    """One pod of each stage meets it, and the table is right all the same."""
    faults = [scene.fault(action, stage=stage, **of) for stage in STAGES]
    scene.apply()
    scene.ends_well(repeated=2 * len(SMALL["grid"]["cores"]))
    assert [len(fault.struck) for fault in faults] == [1] * len(faults)


@play
def pods_killed_before_they_begin(scene: Scene) -> None:
    _once_a_stage(scene, "kill")


@play
def pods_out_of_memory(scene: Scene) -> None:
    _once_a_stage(scene, "oom", at_write=1)


@play
def pods_evicted(scene: Scene) -> None:
    _once_a_stage(scene, "evict", at_write=1)


@play
def pods_without_store_or_device(scene: Scene) -> None:
    """Exit code 3: the host's or the device's fault, another pod tries."""
    _once_a_stage(scene, "exit", code=3)


@play
def pods_doubled(scene: Scene) -> None:
    """Two pods do the same at the same time, in every stage and each index."""
    faults = [scene.fault("twice", stage=stage, times=99) for stage in STAGES]
    scene.apply()
    scene.ends_well(repeated=8)
    assert all(fault.struck for fault in faults)


@play
def pods_that_hang(scene: Scene) -> None:
    """An administrator deletes the one that does not go on."""
    fault = scene.fault("hang", stage="measure", at_write=1)
    scene.apply()
    until(lambda: fault.struck)
    scene.kubectl("delete", "pod", *fault.struck, "--wait=false")
    scene.ends_well()


@play
def messages_of_plan_and_merge_lost(scene: Scene) -> None:
    faults = [scene.fault("lose-message", stage=stage) for stage in ("plan", "merge")]
    scene.apply()
    scene.ends_well()
    assert [len(fault.struck) for fault in faults] == [1, 1]
    assert scene.kubectl("describe", "sweep", "it").count("MessageLost") == 2


@play
def cell_that_kills_its_pod(scene: Scene) -> None:
    """It gets a verdict; everything else is measured."""
    scene.fake(faults=[{"stage": "run", "where": {"cores": 7}, "verdict": "kill"}])
    scene.apply()
    scene.wait()
    rows = scene.results()
    assert {(row["cores"], row["status"], row["reason"]) for row in rows} == {
        (1, "ok", ""),
        (2, "ok", ""),
        (7, "failed", "killed"),
        (14, "ok", ""),
    }
    healthy = [row for row in undisturbed(**SMALL) if row["cores"] != 7]
    found = {row["slot"]: row["throughput_images_s"] for row in rows if row["status"] == "ok"}
    assert found == {row["slot"]: row["throughput_images_s"] for row in healthy}
    assert scene.reason("Complete") == "SomeFailed"
    assert not scene.lies()


def _killed_at_write(number: int) -> None:
    def killed(scene: Scene) -> None:
        faults = [scene.fault("kill", stage=stage, at_write=number) for stage in STAGES]
        scene.apply()
        scene.ends_well(repeated=8)
        assert any(fault.struck for fault in faults)

    killed.__name__ = f"pods_killed_at_write_{number}"
    play(killed)


# The most that any stage makes: a merge's files of the table, and what makes it current.
for number in range(1, 7):
    _killed_at_write(number)


@play
def pods_rejected(scene: Scene) -> None:
    """UnexpectedAdmissionError: the kubelet takes none of its containers."""
    _once_a_stage(scene, "reject")


@play
def pod_preempted(scene: Scene) -> None:
    """By the scheduler, for a pod of more importance that needs its card."""
    name = scene.namespace
    with scene.own_nodes(1, qaic=1):
        scene.fake(sleep_s=SLOW_S)
        scene.apply(pods=scene.on_own_nodes, limits={**SMALL["limits"], "parallelism": 1})
        scene.measuring()
        resources = {"limits": {"qualcomm.com/qaic": "1"}}
        important = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "important"},
            "spec": {
                "priorityClassName": name, "nodeSelector": {"aicsweep.dev/nodes": name},
                "containers": [{"name": "c", "image": "none", "resources": resources}],
            },
        }  # fmt: skip
        scheduling = "scheduling.k8s.io/v1"
        priority = {
            "apiVersion": scheduling,
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": 1000,
        }
        for body in (priority, important):
            scene.kubectl("create", "-f", "-", stdin=json.dumps(body))
        until(lambda: any(_disrupted(pod) for pod in scene.pods("measure")))
        until(lambda: scene.kubectl("get", "pod", "important", "-o", "jsonpath={.status.phase}") == "Running")
        scene.kubectl("delete", "pod", "important", "--wait=false")
        scene.kubectl("delete", "priorityclass", name)
        scene.fake()
        scene.ends_well()


def _disrupted(pod: Any) -> bool:
    return any(c["type"] == "DisruptionTarget" for c in pod.get("status", {}).get("conditions", ()))


@play
def plan_pod_collected_before_it_is_read(scene: Scene) -> None:
    """With its message; the plan is made again."""
    unread = Answer(500, verb="list", resource="pods")
    scene.lane.answers.append(unread)
    scene.apply()
    until(lambda: any(job.get("status", {}).get("succeeded") for job in scene.jobs("plan")))
    scene.kubectl("delete", "pod", "-l", f"{names.LABEL_STAGE}=plan")
    scene.lane.answers.remove(unread)
    scene.ends_well()
    assert "MessageLost" in scene.kubectl("describe", "sweep", "it")


# -- nodes


def _node_goes_away(scene: Scene) -> Fault:
    """With a pod that is about to write its results. The cluster has given up that pod after five minutes; the
    controller after some more, by the clock of the host it is started on again."""
    fault = scene.fault("away", stage="measure", at_write=2)
    scene.apply(pods=scene.on_own_nodes)
    until(lambda: fault.struck)
    scene.kubectl("delete", "pod", *fault.struck, "--wait=false", "--grace-period=1")
    until(lambda: any(_holds_nothing_else(job) for job in scene.jobs("measure")))
    scene.controller.kill()
    scene.controller.clock_ahead_s = 600
    scene.controller.start()
    return fault


def _holds_nothing_else(job: Any) -> bool:
    status = job.get("status", {})
    return bool(status.get("terminating")) and not status.get("active")


@play
def node_lost_for_ever(scene: Scene) -> None:
    """Its pod terminates for ever: its lot is measured elsewhere, in the next round."""
    with scene.own_nodes(2, qaic=1):
        fault = _node_goes_away(scene)
        scene.wait()
        (lost,) = [pod for pod in scene.pods("measure") if pod["metadata"]["name"] in fault.struck]
        assert scene.excluded() == {lost["spec"]["nodeName"]}
        scene.kubectl("delete", "pod", *fault.struck, "--force", "--grace-period=0")
        scene.ends_well()


@play
def node_back_with_a_late_upload(scene: Scene) -> None:
    """When everything is over: what it brings changes nothing that was told."""
    with scene.own_nodes(2, qaic=1):
        fault = _node_goes_away(scene)
        scene.wait()
        told = scene.status
        scene.rig.node_back(fault)
        until(lambda: any(played.pod in fault.struck for played in scene.played("measure")))
        scene.ends_well(repeated=2)
        assert scene.status == told


@play
def node_rebooted(scene: Scene) -> None:
    """With all its pods, of which the kubelet that comes up knows nothing."""
    with scene.own_nodes(1):
        fault = scene.fault("reboot", stage="measure", at_write=2, times=2)
        scene.apply(pods=scene.on_own_nodes)
        scene.ends_well(repeated=4)
        assert len(fault.struck) == 2


@play
def black_hole_node(scene: Scene) -> None:
    """It refuses each pod at once, and so is always the one with most room: it is left out."""
    with scene.own_nodes(2, qaic=2) as (hole, _):
        fault = scene.fault("reject", stage="measure", node=hole, times=999)
        scene.apply(pods=scene.on_own_nodes)
        scene.ends_well(timeout_s=180)
        assert fault.struck
        assert len(fault.struck) < 2 or scene.excluded() == {hole}


@pytest.mark.parametrize("name", play.names)
def test_fault(name: str, played: Callable[[str], str | None]) -> None:
    played(name)
