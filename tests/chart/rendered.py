"""Values of every kind, and how to find one object of what the chart makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.chart.helm import NAMESPACE, Object

DIGEST = f"sha256:{'0' * 64}"
EVERYTHING: dict[str, Any] = {
    "cluster": "east",
    "store": {"dev": {"enabled": True, "storageClassName": "fast"}},
    "images": {
        "registry": "registry.example:5000/team",
        "pullPolicy": "Always",
        "pullSecrets": ["pull"],
        "measure": {"repository": "sdk/measure", "digest": DIGEST},
    },
    "pods": {
        "build": {"cpu": 8, "memory": "32Gi"},
        "measure": {"cpu": 4},
        "imagePullSecrets": ["pull"],
        "buildNodeSelector": {"pool": "cpu"},
        "measureNodeSelector": {"pool": "cards"},
        "tolerations": [{"key": "cards", "operator": "Exists", "effect": "NoSchedule"}],
        "deviceResource": "example.com/card",
        "deviceGroup": 2_000_000,
        "shmSize": "4Gi",
        "cacheClaim": "weights",
        "hfTokenSecretName": "hub",
        "priorityClassName": "low",
    },
    "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3128"},
    "controller": {
        "replicas": 2,
        "settings": {"workers": 4, "stop_s": 33.5, "log_level": "debug"},
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
    },
    "serviceAccount": {"annotations": {"a": "b"}},
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one namespace": {"watchNamespaces": [NAMESPACE]},
    "two namespaces": {"watchNamespaces": ["team-a", "team-b"], "rbac": {"nodes": False}},
    "everything": EVERYTHING,
    "everything, one namespace": {**EVERYTHING, "watchNamespaces": ["team-a"]},
}


def of(objects: list[Object], kind: str, name: str = "") -> Object:
    """The only one of its kind, or of that name."""
    (found,) = [
        each for each in objects if each["kind"] == kind and (not name or each["metadata"]["name"] == name)
    ]
    return found


def all_of(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def pod_specs(objects: list[Object]) -> Iterator[Object]:
    for each in all_of(objects, "Deployment", "StatefulSet"):
        yield each["spec"]["template"]["spec"]
    for each in all_of(objects, "Pod"):
        yield each["spec"]


def environment(objects: list[Object]) -> dict[str, str]:
    (container,) = of(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "from its pod") for each in container["env"]}
