"""What the controller and the kubectl plugin have to do with: kinds of objects, and the rights they need. Pure.

The RBAC rules of an installation are made from CALLS, and `api` refuses every other request, so that
the rules are neither too few nor too many. PLUGIN_CALLS are those of the person at the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """A kind of object, and where the server has it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, *rest: str) -> str:
        """Of one object, its subresource, or of all in `namespace`; "" for all namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        parts += ["namespaces", namespace] if namespace and self.namespaced else []
        return "/" + "/".join(quote(part, safe="") for part in [*parts, self.plural, *rest] if part)


SWEEPS = Resource("aicsweep.dev", "v1alpha1", "sweeps", "Sweep")
JOBS = Resource("batch", "v1", "jobs", "Job")
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

RESOURCES = (SWEEPS, JOBS, PODS, NODES, EVENTS, LEASES)


@dataclass(frozen=True)
class Call:
    """A right that is needed."""

    verb: str
    resource: Resource
    subresource: str = ""

    def __str__(self) -> str:
        """As `kubectl auth can-i` takes it."""
        group = f".{self.resource.group}" if self.resource.group else ""
        sub = f" --subresource={self.subresource}" if self.subresource else ""
        return f"{self.verb} {self.resource.plural}{group}{sub}"


# Everything the controller may ask for; no other request leaves `Api`.
CALLS: Sequence[Call] = (
    Call("list", SWEEPS),
    Call("watch", SWEEPS),
    Call("patch", SWEEPS, "status"),
    Call("list", JOBS),
    Call("watch", JOBS),
    Call("get", JOBS),
    Call("create", JOBS),
    Call("patch", JOBS),
    Call("delete", JOBS),
    Call("list", PODS),
    Call("list", NODES),
    Call("create", EVENTS),
    Call("get", LEASES),
    Call("create", LEASES),
    Call("patch", LEASES),
)

# What `kubectl aicsweep` asks for, with the rights of whoever calls it. Pods are made and deleted by `doctor`, and
# by `table` where the store can't be reached.
PLUGIN_CALLS: Sequence[Call] = (
    Call("get", SWEEPS),
    Call("list", SWEEPS),
    Call("patch", SWEEPS),
    Call("list", JOBS),
    Call("list", PODS),
    Call("get", PODS),
    Call("get", PODS, "log"),
    Call("create", PODS),
    Call("delete", PODS),
    Call("list", NODES),
)


def rules(calls: Sequence[Call]) -> list[dict[str, list[str]]]:
    """RBAC rules that allow these calls and no others, one a kind of object."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for call in calls:
        what = call.resource.plural + (f"/{call.subresource}" if call.subresource else "")
        verbs.setdefault((call.resource.group, what), []).append(call.verb)
    return [
        {"apiGroups": [group], "resources": [what], "verbs": allowed}
        for (group, what), allowed in verbs.items()
    ]
