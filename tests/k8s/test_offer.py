"""What nodes offer: devices, free ones, and what keeps pods away."""

from __future__ import annotations

from typing import Any

import pytest

from k8s.offer import at_once, offers
from runner.pod_settings import Pods, Toleration
from runner.spec import EVERY_DEVICE, EVERY_NODE

QAIC = "qualcomm.com/qaic"


def node(
    name: str = "n", *, devices: int = 4, installed: int = 4, ready: bool = True, **of: Any
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    amounts = {"capacity": {QAIC: str(installed)}, "allocatable": {QAIC: str(devices)}}
    labels = of.pop("labels", {})
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": of,
        "status": {**amounts, "conditions": conditions},
    }


def pod(on: str, devices: int) -> dict[str, Any]:
    return {"spec": {"nodeName": on, "containers": [{"resources": {"requests": {QAIC: str(devices)}}}, {}]}}


def test_what_pods_hold_is_not_free() -> None:
    (found,) = offers([node()], [pod("n", 1), pod("n", 2), pod("other", 1)], Pods())
    assert (found.devices, found.free, found.trouble) == (4, 1, "")
    (unknown,) = offers([node()], None, Pods())
    assert unknown.free is None
    assert at_once([found, unknown], 16) == (8, None)
    assert at_once([found], 2) == (2, 1)


def test_what_runs_at_once_follows_from_the_placement() -> None:
    found = offers([node(f"n-{number}", devices=8, installed=8) for number in range(4)], [], Pods())
    assert at_once(found, 16)[0] == 16
    assert at_once(found, 16, EVERY_NODE)[0] == 4
    assert at_once(found, 3, EVERY_NODE)[0] == 3
    assert at_once(found, 16, EVERY_DEVICE)[0] == 32


def test_nodes_without_cards_are_named_only_if_they_are_meant() -> None:
    bare = node("bare", devices=0, installed=0)
    labelled = node("meant", devices=0, installed=0, labels={"qualcomm.com/qaic": "true"})
    assert offers([bare], [], Pods()) == []
    (found,) = offers([bare, labelled], [], Pods())
    assert (found.node, found.trouble) == ("meant", f"offers no {QAIC}")
    (selected,) = offers([bare], [], Pods(measure_node_selector={}, device_resource=""))
    assert selected.usable


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (node(ready=False), "not ready"),
        (node(unschedulable=True), "cordoned"),
        (node(taints=[{"key": "a", "effect": "NoSchedule"}]), "taint a is not tolerated"),
        (node(taints=[{"key": "a", "effect": "PreferNoSchedule"}]), ""),
        (node(devices=3), "1 unhealthy"),
        (node(devices=0), f"offers no {QAIC}; 4 unhealthy"),
    ],
)
def test_what_is_in_the_way(found: dict[str, Any], state: str) -> None:
    (seen,) = offers([found], [], Pods())
    assert seen.state == state


@pytest.mark.parametrize(
    ("toleration", "usable"),
    [
        (Toleration(key="a", value="b"), True),
        (Toleration(key="a", value="c"), False),
        (Toleration(key="a", operator="Exists", effect="NoExecute"), False),
        (Toleration(operator="Exists"), True),
    ],
)
def test_taints_that_are_tolerated(toleration: Toleration, usable: bool) -> None:
    tainted = node(taints=[{"key": "a", "value": "b", "effect": "NoSchedule"}])
    (found,) = offers([tainted], [], Pods(tolerations=(toleration,)))
    assert found.usable == usable
