"""What is kept of an object is what decisions read, and not much more."""

from __future__ import annotations

import json
from typing import Any

from k8s import jobs, prune
from k8s.child import Child
from k8s.facts import PlanFacts, Wave
from k8s.observe import observe, pods_wanted
from runner.sweepfile import sweep_from_object
from tests.k8s.world import DEFAULTS, sweep

MANAGED_FIELDS = [{"manager": "m", "operation": "Update", "fieldsV1": {"f:spec": {"f:x" * 50: {}}}}]


def job(index: int = 0) -> dict[str, Any]:
    """A measure Job as the server gives it back."""
    owner = sweep()
    child = Child(owner, sweep_from_object(owner), DEFAULTS, 1)
    facts = PlanFacts(plan="a" * 32, lots=64, binaries=1)
    made = jobs.measure_job(child, facts, Wave(index, 0, 64), parallelism=16)
    made["metadata"].update(
        uid=f"uid-{index}",
        resourceVersion="7",
        generation=1,
        creationTimestamp="2026-01-01T00:00:00Z",
        managedFields=MANAGED_FIELDS,
    )
    made["spec"]["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": f"uid-{index}"}}
    made["status"] = {
        "active": 16,
        "ready": 12,
        "terminating": 0,
        "succeeded": 8,
        "failed": 2,
        "completedIndexes": "0-7",
        "failedIndexes": "9",
        "startTime": "2026-01-01T00:00:00Z",
        "uncountedTerminatedPods": {"succeeded": ["x" * 36] * 10},
        "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }
    return made


def pod() -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p",
            "namespace": "bench",
            "uid": "u",
            "resourceVersion": "9",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"batch.kubernetes.io/job-name": "j"},
            "managedFields": MANAGED_FIELDS,
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "aicsweep", "env": [{"name": "x", "value": "y" * 500}]}],
        },
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "the node was low on memory",
            "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/3 nodes", "lastProbeTime": None},
                {"type": "DisruptionTarget", "status": "True"},
                {"type": "Initialized", "status": "True"},
            ],
            "containerStatuses": [
                {
                    "name": "aicsweep",
                    "image": "i" * 200,
                    "state": {
                        "terminated": {"exitCode": 3, "message": '{"error": "e"}', "containerID": "c" * 64}
                    },
                }
            ],
        },
    }


def test_a_job_and_its_pods_are_observed_alike_before_and_after() -> None:
    one = job()
    failed = pod()
    failed["metadata"]["labels"]["batch.kubernetes.io/job-name"] = one["metadata"]["name"]
    seen = observe([one], [failed])
    assert observe([prune.job(one)], [prune.pod(failed)]) == seen
    assert seen.jobs[one["metadata"]["name"]].pods[0].exit_code == 3
    assert pods_wanted([prune.job(one)]) == pods_wanted([one]) != []


def test_a_job_shrinks_to_a_fraction() -> None:
    assert len(json.dumps(prune.job(job()))) < len(json.dumps(job())) / 2.5
    assert "template" not in json.dumps(prune.job(job()))


def test_nobodys_fields_are_kept() -> None:
    owner = sweep()
    owner["metadata"]["managedFields"] = MANAGED_FIELDS
    owner["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "team": "vision",
    }
    for kept in (prune.sweep(owner), prune.job(job()), prune.pod(pod()), prune.node(pod())):
        assert "managedFields" not in kept["metadata"]
        assert kept["metadata"]["name"]
    assert prune.sweep(owner)["metadata"]["annotations"] == {"team": "vision"}
    assert prune.sweep(owner)["spec"] == owner["spec"]
