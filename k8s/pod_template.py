"""Pods of a Sweep's Jobs: what they may, hold and are told. Pure.

What they are told and what they answer stands in docs/pods.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from k8s import names
from k8s.child import Child
from k8s.facts import PlanFacts
from runner.pod_settings import PodResources

HOSTNAME = "kubernetes.io/hostname"
# OpenShift's operator puts it on nodes with cards; elsewhere no label is sure, see `pods.buildNodeSelector`.
DEVICE_NODE = "qualcomm.com/qaic"
USER = 65532
GRACE_S = 90
# Over a task's estimate before its pod is ended: the vendor's times spread by a factor of two.
SLACK_FACTOR, SLACK_S = 3, 1800
SHORT_TASK_S = 3600
# Keys of the store's Secret that pods are given, and whether there must be one.
SECRET_KEYS = {
    "AWS_ACCESS_KEY_ID": True, "AWS_SECRET_ACCESS_KEY": True, "AWS_SESSION_TOKEN": False, "AWS_REGION": False,
    "AWS_ENDPOINT_URL": False,
}  # fmt: skip


def build_pod(child: Child, stage: str, environment: Mapping[str, str], seconds: float) -> dict[str, Any]:
    pods = child.sweep.spec.pods
    image = pods.build_image or child.defaults.build_image
    pod = _pod(child, stage, environment, image, pods.build, seconds)
    pod["nodeSelector"] = {"kubernetes.io/arch": "amd64", **pods.build_node_selector}
    if not pods.build_on_device_nodes:
        pod["affinity"] = affinity([{"key": DEVICE_NODE, "operator": "DoesNotExist"}])
    return pod


def measure_pod(child: Child, facts: PlanFacts, first: int, *, devices: int) -> dict[str, Any]:
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


def affinity(expressions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def preference(expressions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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
        # The kernel spares a namespace's first process a SIGTERM that it has no handler for yet: who is asked to end
        # while Python begins would go on measuring until it is killed.
        "shareProcessNamespace": True,
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
