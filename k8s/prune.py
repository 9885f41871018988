"""What of an object is kept in memory: only what a decision needs. Pure.

    watch (every object that comes in), reconcile (pods and nodes of one pass) --> `sweep` | `job` | `pod` | `node`

A Job as the server sends it is 5 KiB and more, most of it its pod template and who last wrote which field;
less than 1 KiB is kept. Ten thousand of them must fit beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Object = dict[str, Any]

_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
)
_JOB_SPEC = (
    "completionMode",
    "completions",
    "parallelism",
    "suspend",
    "backoffLimit",
    "backoffLimitPerIndex",
)
_POD_CONDITIONS = ("PodScheduled", "DisruptionTarget")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def sweep(found: Object) -> Object:
    """Spec and status whole; of its metadata what identifies it and what people wrote on it."""
    return {**found, "metadata": _metadata(found)}


def job(found: Object) -> Object:
    """Without pod template and selector; what a Job is for stands in its labels."""
    status = {
        key: value for key, value in found.get("status", {}).items() if key != "uncountedTerminatedPods"
    }
    return {"metadata": _metadata(found), "spec": _some(found.get("spec", {}), _JOB_SPEC), "status": status}


def pod(found: Object) -> Object:
    """Where it ran, what it waits for, and what its containers said at their end."""
    status = found.get("status", {})
    conditions = [
        _some(each, ("type", "status", "reason", "message"))
        for each in status.get("conditions", ())
        if each["type"] in _POD_CONDITIONS
    ]
    containers = [
        {"name": each["name"], "state": _state(each.get("state", {}))}
        for each in status.get("containerStatuses", ())
    ]
    return {
        "metadata": _metadata(found),
        "spec": _some(found.get("spec", {}), ("nodeName",)),
        "status": {
            **_some(status, ("phase", "reason", "message")),
            "conditions": conditions,
            "containerStatuses": containers,
        },
    }


def node(found: Object) -> Object:
    """What it offers, and whether pods may go there."""
    return {
        "metadata": _metadata(found),
        "spec": _some(found.get("spec", {}), ("unschedulable", "taints")),
        "status": _some(found.get("status", {}), ("capacity", "allocatable", "conditions")),
    }


def _metadata(found: Object) -> Object:
    metadata = found["metadata"]
    kept = _some(metadata, _METADATA)
    for field in ("labels", "annotations"):
        words = {key: value for key, value in metadata.get(field, {}).items() if key != _LAST_APPLIED}
        if words:
            kept[field] = words
    owners = [
        _some(owner, ("kind", "name", "uid", "controller")) for owner in metadata.get("ownerReferences", ())
    ]
    if owners:
        kept["ownerReferences"] = owners
    return kept


def _state(state: Mapping[str, Any]) -> Object:
    return {name: _some(said, ("exitCode", "signal", "reason", "message")) for name, said in state.items()}


def _some(values: Mapping[str, Any], keys: Iterable[str]) -> Object:
    return {key: values[key] for key in keys if key in values}
