"""Manifests of a Sweep's Jobs: a validated Sweep and plan facts in, plain dicts out. Pure.

What the pods are told and what they answer stands in docs/pods.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from k8s import names
from k8s.facts import PlanFacts, Wave
from runner.pod_settings import PodResources, Pods
from runner.spec import Sweep

API_VERSION = f"{names.GROUP}/{names.VERSION}"
HOSTNAME = "kubernetes.io/hostname"
# OpenShift's operator puts it on nodes with cards; elsewhere no label is sure, see `pods.buildNodeSelector`.
DEVICE_NODE = "qualcomm.com/qaic"
USER = 65532
GRACE_S = 90
# Over a task's estimate before its pod is ended: the vendor's times spread by a factor of two.
SLACK_FACTOR, SLACK_S = 3, 1800
SHORT_TASK_S = 3600
# With the Job controller's pauses, 10 s and doubling, plan and merge outlast a store that is away for 10 minutes.
RETRIES_OF_AN_INDEX, RETRIES = 2, 6

# Exit codes of `aicsweep pod` that say what to do next.
EXIT_ALL_FAILED, EXIT_BAD_INPUT = 1, 2
# Keys of the store's Secret that pods are given, and whether there must be one.
SECRET_KEYS = {
    "AWS_ACCESS_KEY_ID": True, "AWS_SECRET_ACCESS_KEY": True, "AWS_SESSION_TOKEN": False, "AWS_REGION": False,
    "AWS_ENDPOINT_URL": False,
}  # fmt: skip


@dataclass(frozen=True)
class Defaults:
    """What the cluster's operator has set and a Sweep may leave open."""

    cluster: str = "local"
    store: str = ""
    secret_name: str = ""
    build_image: str = "aicsweep-build"
    measure_image: str = "aicsweep-measure"
    pull_policy: str = "IfNotPresent"
    pods: Pods = field(default_factory=Pods)
    # Variables of every pod.
    proxies: Mapping[str, str] = field(default_factory=dict)

    def completed(self, sweep: Sweep) -> Sweep:
        """The Sweep with what it says of its pods, and for the rest what is said here."""
        ours, theirs = self.pods.model_dump(), sweep.spec.pods.model_dump(exclude_unset=True)
        for name in ("build", "measure"):
            theirs[name] = {**ours[name], **theirs.get(name, {})}
        pods = Pods.model_validate({**ours, **theirs})
        return sweep.model_copy(update={"spec": sweep.spec.model_copy(update={"pods": pods})})


@dataclass(frozen=True)
class Child:
    """What a manifest is made for: the Sweep as the API server has it, and as our model."""

    object: Mapping[str, Any]
    sweep: Sweep
    defaults: Defaults
    round: int

    @property
    def store(self) -> str:
        return self.sweep.spec.results.url or self.defaults.store


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
    pod = _build_pod(child, names.PLAN, environment, SHORT_TASK_S)
    job = _job(child, names.plan_job(child.object, child.round), names.PLAN, pod)
    if targets:
        nodes = json.dumps([target["node"] for target in targets], separators=(",", ":"))
        job["metadata"]["annotations"] = {names.ANNOTATION_TARGETS: nodes}
    return job


def export_job(child: Child, facts: PlanFacts) -> dict[str, Any]:
    environment = {"AICSWEEP_PLAN": facts.plan, "AICSWEEP_FIRST": "0"}
    pod = _build_pod(child, names.EXPORT, environment, SHORT_TASK_S)
    name = names.job(child.object, facts.plan, names.EXPORT)
    return _indexed(
        _job(child, name, names.EXPORT, pod, facts), facts.exports, child.sweep.spec.limits.parallelism
    )


def compile_job(child: Child, facts: PlanFacts, wave: Wave) -> dict[str, Any]:
    environment = {"AICSWEEP_PLAN": facts.plan, "AICSWEEP_FIRST": str(wave.first)}
    seconds = SLACK_FACTOR * facts.compile_s / max(1, facts.lots) + SLACK_S
    pod = _build_pod(child, names.COMPILE, environment, seconds)
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
    """The wave's lots, on any device nodes but the `struck` ones where pods have been `elsewhere`. A node that fails
    each pod at once always has room, and would take all lots for which others have none. Where no other node is
    known there may be none, and a Job that may run nowhere waits for ever: then the struck ones are the last choice.
    """
    pod = _measure_pod(child, facts, wave.first, devices=1)
    if struck:
        others = [{"key": HOSTNAME, "operator": "NotIn", "values": list(struck)}]
        pod["affinity"] = _affinity(others) if elsewhere else _preference(others)
    name = names.job(child.object, facts.plan, names.MEASURE, wave.number)
    job = _job(child, name, names.MEASURE, pod, facts, {names.LABEL_WAVE: str(wave.number)})
    return _indexed(job, wave.count, min(parallelism, wave.count))


def pinned_job(child: Child, facts: PlanFacts, number: int, node: str, devices: int) -> dict[str, Any]:
    """All lots of target `number`, the node `node`, with all of its `devices`, one lot after the other."""
    first, count = facts.targets[node]
    pod = _measure_pod(child, facts, first, devices=devices)
    pod["affinity"] = _affinity([{"key": HOSTNAME, "operator": "In", "values": [node]}])
    name = names.job(child.object, facts.plan, names.MEASURE, 0, number)
    labels = {names.LABEL_WAVE: "0", names.LABEL_TARGET: str(number)}
    return _indexed(_job(child, name, names.MEASURE, pod, facts, labels), count, 1)


def merge_job(child: Child, facts: PlanFacts, unreached: Mapping[str, str] | None = None) -> dict[str, Any]:
    environment = {"AICSWEEP_PLAN": facts.plan}
    if unreached:
        environment["AICSWEEP_UNREACHED"] = json.dumps(unreached, separators=(",", ":"))
    pod = _build_pod(child, names.MERGE, environment, SHORT_TASK_S)
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


def _build_pod(child: Child, stage: str, environment: Mapping[str, str], seconds: float) -> dict[str, Any]:
    pods = child.sweep.spec.pods
    image = pods.build_image or child.defaults.build_image
    pod = _pod(child, stage, environment, image, pods.build, seconds)
    pod["nodeSelector"] = {"kubernetes.io/arch": "amd64", **pods.build_node_selector}
    if not pods.build_on_device_nodes:
        pod["affinity"] = _affinity([{"key": DEVICE_NODE, "operator": "DoesNotExist"}])
    return pod


def _measure_pod(child: Child, facts: PlanFacts, first: int, *, devices: int) -> dict[str, Any]:
    spec = child.sweep.spec
    environment = {
        "AICSWEEP_PLAN": facts.plan,
        "AICSWEEP_FIRST": str(first),
        "AICSWEEP_EXECUTION": spec.execution,
    }
    seconds = SLACK_FACTOR * facts.lot_s + SLACK_S
    if spec.execution == "combined":
        seconds += SLACK_FACTOR * facts.compile_s / max(1, facts.lots)
    image = spec.pods.measure_image or child.defaults.measure_image
    pod = _pod(child, names.MEASURE, environment, image, spec.pods.measure, seconds)
    pod["nodeSelector"] = dict(spec.pods.measure_node_selector)
    pod["securityContext"]["supplementalGroups"] = [spec.pods.device_group]
    if spec.pods.device_resource:
        for kind in ("requests", "limits"):
            pod["containers"][0]["resources"][kind][spec.pods.device_resource] = str(devices)
    return pod


def _affinity(expressions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _preference(expressions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    terms = [{"weight": 100, "preference": {"matchExpressions": list(expressions)}}]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}


def _pod(
    child: Child,
    stage: str,
    environment: Mapping[str, str],
    image: str,
    resources: PodResources,
    seconds: float,
) -> dict[str, Any]:
    """A restricted pod: non-root, read-only root, nothing allowed, no token; Guaranteed, with whole CPUs."""
    pods = child.sweep.spec.pods
    amount = {"cpu": str(resources.cpu), "memory": resources.memory}
    cache: dict[str, Any] = (
        {"persistentVolumeClaim": {"claimName": pods.cache_claim}} if pods.cache_claim else {"emptyDir": {}}
    )
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "activeDeadlineSeconds": int(seconds),
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [t.model_dump(exclude_defaults=True) for t in pods.tolerations],
        "imagePullSecrets": [{"name": name} for name in pods.image_pull_secrets],
        **({"priorityClassName": pods.priority_class_name} if pods.priority_class_name else {}),
        "containers": [
            {
                "name": names.CONTAINER,
                "image": image,
                "imagePullPolicy": child.defaults.pull_policy,
                "args": ["pod", stage],
                "env": _environment(child, environment),
                "resources": {"requests": dict(amount), "limits": dict(amount)},
                "terminationMessagePolicy": "File",
                "securityContext": {
                    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "cache", "mountPath": "/cache"},
                    {"name": "shm", "mountPath": "/dev/shm"},
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "cache", **cache},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pods.shm_size}},
        ],
    }  # fmt: skip


def _environment(child: Child, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    spec = child.sweep.spec
    plain = {
        "AICSWEEP_STORE": child.store,
        "AICSWEEP_PREFIX": child.sweep.store_prefix(child.defaults.cluster),
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "XDG_CACHE_HOME": "/cache",
        "TORCH_HOME": "/cache/torch",
        "HF_HOME": "/cache/huggingface",
        **child.defaults.proxies,
        **environment,
    }
    listed: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in sorted(plain.items())]
    fields = {"AICSWEEP_POD": "metadata.uid", "AICSWEEP_NODE": "spec.nodeName"}
    listed += [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()
    ]
    secret = spec.results.secret_name or child.defaults.secret_name
    if secret:
        listed += [_from_secret(key, secret, key, needed=needed) for key, needed in SECRET_KEYS.items()]
    if spec.pods.hf_token_secret_name:
        listed.append(_from_secret("HF_TOKEN", spec.pods.hf_token_secret_name, "HF_TOKEN", needed=True))
    return listed


def _from_secret(name: str, secret: str, key: str, *, needed: bool) -> dict[str, Any]:
    reference = {"name": secret, "key": key, "optional": not needed}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}
