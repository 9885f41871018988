"""Nodes are real: Ready, with their cards, and a restricted pod of the measure image opens one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.cluster import QAIC, until
from tests.nodes.bench import BUILDER, CARDS, Bench

pytestmark = [pytest.mark.nodes, pytest.mark.cluster, pytest.mark.timeout(900)]

OPEN = """
import json, os, pathlib
devices = sorted(map(str, pathlib.Path("/dev/accel").glob("*")))
for device in devices:
    os.close(os.open(device, os.O_RDWR))
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({"devices": devices, "uid": os.getuid(), "groups": os.getgroups(),
                  "capabilities": status["CapEff"].strip(), "seccomp": status["Seccomp"].strip()}))
"""


def pod(bench: Bench, program: str, *, group: int = 995, devices: int = 1) -> dict[str, Any]:
    """As `k8s.pod_template` makes measure pods, but for the program."""
    amount = {"cpu": "1", "memory": "256Mi", QAIC: str(devices)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "supplementalGroups": [group],
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": bench.images["measure"],
                    "imagePullPolicy": "Never",
                    "command": ["python", "-c", program],
                    "resources": {"requests": amount, "limits": amount},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def phase(bench: Bench, namespace: str) -> str:
    found: str = bench.cluster.get("pod", "probe", "-n", namespace)["status"]["phase"]
    return found


def test_nodes_offer_their_cards(bench):
    until(
        lambda: all(
            bench.cluster.get("node", name)["status"]["allocatable"].get(QAIC) == "2" for name in CARDS
        ),
        timeout_s=60,
    )
    assert QAIC not in bench.cluster.get("node", BUILDER)["status"]["capacity"]


def test_a_restricted_pod_opens_its_card(bench, namespace):
    bench.cluster.apply(pod(bench, OPEN), namespace=namespace)
    until(lambda: phase(bench, namespace) in ("Succeeded", "Failed"), timeout_s=60)
    said = bench.logs(namespace, "probe")
    assert phase(bench, namespace) == "Succeeded", said
    found = json.loads(said)
    assert found["uid"] == 65532
    assert 995 in found["groups"]
    assert len(found["devices"]) == 1
    assert int(found["capabilities"], 16) == 0
    assert found["seccomp"] == "2"


def test_a_pod_of_another_group_does_not(bench, namespace):
    bench.cluster.apply(pod(bench, OPEN, group=996), namespace=namespace)
    until(lambda: phase(bench, namespace) in ("Succeeded", "Failed"), timeout_s=60)
    assert phase(bench, namespace) == "Failed"
    assert "PermissionError" in bench.logs(namespace, "probe")
