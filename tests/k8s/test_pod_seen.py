"""How a pod ended or why it waits, and whose fault that is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from k8s.pod_seen import LOST_AFTER, pod_seen
from tests.k8s.seen import failed, pod
from tests.k8s.world import START


def unscheduled(why):
    return {"conditions": [{"type": "PodScheduled", "status": "False", "message": why}]}


def held(**state):
    return {"containerStatuses": [{"state": {"waiting": state}}]}


@pytest.mark.parametrize(
    ("status", "waiting"),
    [
        (unscheduled("Insufficient qaic"), "Insufficient qaic"),
        (held(reason="ImagePullBackOff", message="no"), "ImagePullBackOff: no"),
        (held(reason="ContainerCreating"), ""),
    ],
)
def test_why_a_pod_waits(status, waiting):
    assert pod_seen(pod("Pending", **status)).waiting == waiting


def test_a_message_that_is_no_json_is_lost_and_the_reason_of_a_failure_is_kept():
    terminated = {"exitCode": 137, "reason": "OOMKilled", "message": "garbage{"}
    seen = pod_seen(pod("Failed", containerStatuses=[{"state": {"terminated": terminated}}]))
    assert (seen.exit_code, seen.message, seen.reason) == (137, None, "OOMKilled")


OURS = '{"error": "KeyError: x", "reason": "internal"}'
NO_STORE = '{"error": "no bucket", "reason": "store"}'
EVICTED = {"reason": "Evicted", "conditions": [{"type": "DisruptionTarget", "status": "True"}]}
REFUSED = {"reason": "UnexpectedAdmissionError", "message": "no healthy devices present"}


def deleted(of, since=timedelta(0)):
    then = START - since - timedelta(seconds=1)
    return {**of, "metadata": {**of["metadata"], "deletionTimestamp": then.isoformat()}}


@pytest.mark.parametrize(
    ("made", "strikes"),
    [
        pytest.param(failed(3), 1, id="its device or host failed it"),
        pytest.param(pod("Failed", **REFUSED), 1, id="its kubelet refused it"),
        pytest.param(deleted(pod("Running"), LOST_AFTER), 2, id="its node is lost"),
        pytest.param(deleted(pod("Running")), 0, id="it is ending"),
        pytest.param(failed(3, NO_STORE), 0, id="the store was away"),
        pytest.param(failed(3, OURS), 0, id="a mistake of ours"),
        pytest.param(deleted(failed(3)), 0, id="it was deleted, and failed on its way out"),
        pytest.param(failed(1), 0, id="its slots failed"),
        pytest.param(failed(137), 0, id="it was killed"),
        pytest.param(pod("Failed", **EVICTED), 0, id="it was evicted"),
        pytest.param(deleted(pod("Failed")), 0, id="somebody deleted it before it began"),
        pytest.param(pod("Running"), 0, id="it runs"),
        pytest.param(pod("Succeeded"), 0, id="it is well"),
    ],
)
def test_only_faults_of_the_node_are_strikes(made, strikes):
    assert pod_seen(made).strikes(START) == strikes
