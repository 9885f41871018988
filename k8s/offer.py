"""What the cluster's nodes offer a Sweep's measure pods: devices, how many are free, what is in the way. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from k8s.pod_template import DEVICE_NODE
from runner.pod_settings import Pods, Toleration
from runner.spec import ANY, EVERY_DEVICE

Object = Mapping[str, Any]
Why = Literal["", "not-ready", "cordoned", "taint", "no-device"]


@dataclass(frozen=True)
class Offer:
    """A node. `devices` may be given to pods, of `installed`; `free` of them are, None is unknown. `why` no
    measure pod can go there, and the same in words, `trouble`; both empty where one can."""

    node: str
    devices: int
    installed: int
    free: int | None
    why: Why = ""
    trouble: str = ""

    @property
    def usable(self) -> bool:
        return not self.why

    @property
    def state(self) -> str:
        ill = self.installed - self.devices
        parts = [self.trouble, f"{ill} unhealthy" if ill > 0 else ""]
        return "; ".join(part for part in parts if part)


def offers(nodes: Iterable[Object], pods: Iterable[Object] | None, wanted: Pods) -> list[Offer]:
    """Nodes that a Sweep with these `pods` settings might measure on: they offer its device resource, or are
    meant to. `pods` are those at work in all namespaces."""
    used = None if pods is None else _used(pods, wanted.device_resource)
    found = []
    for node in nodes:
        meta, status = node["metadata"], node.get("status", {})
        labels = meta.get("labels", {})
        if not wanted.measure_node_selector.items() <= labels.items():
            continue
        installed, devices = (_count(status.get(name, {}), wanted) for name in ("capacity", "allocatable"))
        meant = bool(wanted.measure_node_selector) or labels.get(DEVICE_NODE) == "true"
        if installed or devices or meant or not wanted.device_resource:
            free = None if used is None else max(0, devices - used[meta["name"]])
            trouble = _trouble(node, devices, wanted)
            found.append(Offer(meta["name"], devices, max(installed, devices), free, *trouble))
    return sorted(found, key=lambda offer: offer.node)


def _count(amounts: Mapping[str, Any], wanted: Pods) -> int:
    return int(amounts.get(wanted.device_resource, 0)) if wanted.device_resource else 0


def _used(pods: Iterable[Object], resource: str) -> Counter[str]:
    """Devices given to pods, by node."""
    used: Counter[str] = Counter()
    for pod in pods:
        for container in pod["spec"].get("containers", ()):
            requests = container.get("resources", {}).get("requests", {})
            used[pod["spec"].get("nodeName", "")] += int(requests.get(resource, 0))
    return used


def _trouble(node: Object, devices: int, wanted: Pods) -> tuple[Why, str]:
    spec, conditions = node.get("spec", {}), node.get("status", {}).get("conditions", ())
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
        return "not-ready", "not ready"
    if spec.get("unschedulable"):
        return "cordoned", "cordoned"
    for taint in spec.get("taints", ()):
        if taint.get("effect") != "PreferNoSchedule" and not _tolerated(taint, wanted.tolerations):
            return "taint", f"taint {taint['key']} is not tolerated"
    if wanted.device_resource and not devices:
        return "no-device", f"offers no {wanted.device_resource}"
    return "", ""


def _tolerated(taint: Object, tolerations: Sequence[Toleration]) -> bool:
    """As the scheduler has it: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/"""
    return any(
        each.effect in ("", taint.get("effect"))
        and each.key in ("", taint["key"])
        and (each.operator == "Exists" or each.value == taint.get("value", ""))
        for each in tolerations
    )


def at_once(found: Iterable[Offer], parallelism: int, placement: str = ANY) -> tuple[int, int | None]:
    """Devices that could be measured on at once in the empty cluster, and now (None: unknown). Of `any` as many
    as `parallelism`; else that many nodes, with one of their devices or all of them."""
    usable = [offer for offer in found if offer.usable]
    most = _at_once([offer.devices for offer in usable], parallelism, placement)
    free = [offer.free for offer in usable if offer.free is not None]
    return most, _at_once(free, parallelism, placement) if len(free) == len(usable) else None


def _at_once(devices: Sequence[int], parallelism: int, placement: str) -> int:
    if placement == ANY:
        return min(parallelism, sum(devices))
    each = devices if placement == EVERY_DEVICE else [min(1, count) for count in devices]
    return sum(sorted(each, reverse=True)[:parallelism])


def as_dict(found: Iterable[Offer]) -> list[dict[str, Any]]:
    return [asdict(offer) for offer in found]


def rows(found: Iterable[Offer]) -> list[dict[str, str]]:
    """For a table."""
    return [
        {
            "node": offer.node,
            "devices": str(offer.devices),
            "free": "?" if offer.free is None else str(offer.free),
            "state": offer.state or "ok",
        }
        for offer in found
    ]
