"""Manifests of a Sweep's Jobs: a validated Sweep and plan facts in, plain dicts out. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from k8s import names, pod_template
from k8s.child import Child
from k8s.facts import PlanFacts, Wave

API_VERSION = f"{names.GROUP}/{names.VERSION}"
# With the Job controller's pauses, 10 s and doubling, plan and merge outlast a store that is away for 10 minutes.
RETRIES_OF_AN_INDEX, RETRIES = 2, 6

# Exit codes of `aicsweep pod` that say what to do next.
EXIT_ALL_FAILED, EXIT_BAD_INPUT = 1, 2


def plan_job(child: Child, targets: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    spec = child.sweep.spec
    document = {
        "apiVersion": API_VERSION,
        "kind": "Sweep",
        "metadata": {k: child.object["metadata"][k] for k in ("name", "namespace", "uid", "generation")},
        "spec": child.object["spec"],
    }
    environment = {
        "AICSWEEP_SWEEP": json.dumps(document, separators=(",", ":")),
        "AICSWEEP_ROUND": str(child.round),
        "AICSWEEP_CORES": str(spec.pods.measure.cpu),
    }
    if targets:
        environment["AICSWEEP_TARGETS"] = json.dumps(targets, separators=(",", ":"))
    pod = pod_template.build_pod(child, names.PLAN, environment, pod_template.SHORT_TASK_S)
    job = _job(child, names.plan_job(child.object, child.round), names.PLAN, pod)
    if targets:
        nodes = json.dumps([target["node"] for target in targets], separators=(",", ":"))
        job["metadata"]["annotations"] = {names.ANNOTATION_TARGETS: nodes}
    return job


def export_job(child: Child, facts: PlanFacts) -> dict[str, Any]:
    environment = {"AICSWEEP_PLAN": facts.plan, "AICSWEEP_FIRST": "0"}
    pod = pod_template.build_pod(child, names.EXPORT, environment, pod_template.SHORT_TASK_S)
    name = names.job(child.object, facts.plan, names.EXPORT)
    return _indexed(
        _job(child, name, names.EXPORT, pod, facts), facts.exports, child.sweep.spec.limits.parallelism
    )


def compile_job(child: Child, facts: PlanFacts, wave: Wave) -> dict[str, Any]:
    environment = {"AICSWEEP_PLAN": facts.plan, "AICSWEEP_FIRST": str(wave.first)}
    seconds = pod_template.SLACK_FACTOR * facts.compile_s / max(1, facts.lots) + pod_template.SLACK_S
    pod = pod_template.build_pod(child, names.COMPILE, environment, seconds)
    name = names.job(child.object, facts.plan, names.COMPILE, wave.number)
    job = _job(child, name, names.COMPILE, pod, facts, {names.LABEL_WAVE: str(wave.number)})
    return _indexed(job, wave.count, child.sweep.spec.limits.parallelism)


def measure_job(
    child: Child,
    facts: PlanFacts,
    wave: Wave,
    *,
    parallelism: int,
    struck: Sequence[str] = (),
    elsewhere: bool = True,
) -> dict[str, Any]:
    """The wave's lots, on any device nodes but the `struck` ones where pods were well `elsewhere`. A node that fails
    each pod at once always has room, and would take all lots for which others have none. Where no well node is
    known there may be none, and a Job that may run nowhere waits for ever: then the struck ones are the last choice.
    """
    pod = pod_template.measure_pod(child, facts, wave.first, devices=1)
    if struck:
        others = [{"key": pod_template.HOSTNAME, "operator": "NotIn", "values": list(struck)}]
        pod["affinity"] = pod_template.affinity(others) if elsewhere else pod_template.preference(others)
    name = names.job(child.object, facts.plan, names.MEASURE, wave.number)
    job = _job(child, name, names.MEASURE, pod, facts, {names.LABEL_WAVE: str(wave.number)})
    return _indexed(job, wave.count, min(parallelism, wave.count))


def pinned_job(child: Child, facts: PlanFacts, number: int, node: str, devices: int) -> dict[str, Any]:
    """All lots of target `number`, the node `node`, with all of its `devices`, one lot after the other."""
    first, count = facts.targets[node]
    pod = pod_template.measure_pod(child, facts, first, devices=devices)
    here = {"key": pod_template.HOSTNAME, "operator": "In", "values": [node]}
    pod["affinity"] = pod_template.affinity([here])
    name = names.job(child.object, facts.plan, names.MEASURE, 0, number)
    labels = {names.LABEL_WAVE: "0", names.LABEL_TARGET: str(number)}
    return _indexed(_job(child, name, names.MEASURE, pod, facts, labels), count, 1)


def merge_job(child: Child, facts: PlanFacts, unreached: Mapping[str, str] | None = None) -> dict[str, Any]:
    environment = {"AICSWEEP_PLAN": facts.plan}
    if unreached:
        environment["AICSWEEP_UNREACHED"] = json.dumps(unreached, separators=(",", ":"))
    pod = pod_template.build_pod(child, names.MERGE, environment, pod_template.SHORT_TASK_S)
    return _job(child, names.job(child.object, facts.plan, names.MERGE), names.MERGE, pod, facts)


def _job(
    child: Child,
    name: str,
    stage: str,
    pod: dict[str, Any],
    facts: PlanFacts | None = None,
    more_labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    meta = child.object["metadata"]
    labels = {
        names.LABEL_SWEEP: meta["name"],
        names.LABEL_UID: meta["uid"],
        names.LABEL_STAGE: stage,
        names.LABEL_GENERATION: str(meta["generation"]),
        names.LABEL_ROUND: str(child.round),
        names.MANAGED_BY: names.MANAGER,
        **({names.LABEL_PLAN: facts.plan[: names.PLAN_LABEL_DIGITS]} if facts else {}),
        **(more_labels or {}),
    }
    queue = child.sweep.spec.pods.queue_name
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": {**labels, **({"kueue.x-k8s.io/queue-name": queue} if queue else {})},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION, "kind": "Sweep", "name": meta["name"], "uid": meta["uid"],
                    "controller": True, "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "backoffLimit": RETRIES,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [_rule(EXIT_BAD_INPUT, "FailJob"), _DISRUPTION]},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }  # fmt: skip


def _rule(exit_code: int, action: str) -> dict[str, Any]:
    return {
        "action": action,
        "onExitCodes": {"containerName": names.CONTAINER, "operator": "In", "values": [exit_code]},
    }


# A drained node or a pre-empted pod says nothing about the work: it must not eat the index's retries.
_DISRUPTION = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def _indexed(job: dict[str, Any], completions: int, parallelism: int) -> dict[str, Any]:
    """The Job with an index for each task; one that fails for good leaves the others alone."""
    spec = job["spec"]
    del spec["backoffLimit"]
    spec["completionMode"] = "Indexed"
    spec["completions"], spec["parallelism"] = completions, min(parallelism, completions)
    spec["backoffLimitPerIndex"] = RETRIES_OF_AN_INDEX
    spec["podFailurePolicy"]["rules"].insert(1, _rule(EXIT_ALL_FAILED, "FailIndex"))
    return job
