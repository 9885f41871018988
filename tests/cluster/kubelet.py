"""What a kubelet knows of a pod and says of it, as far as a Job is concerned. Pure but for the pod's folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def path(pod: Any) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def field(pod: Any, path: str) -> str:
    """A value of the downward API: `metadata.uid`, `metadata.annotations['...']`."""
    if path.endswith("']"):
        path, _, key = path.removesuffix("']").partition("['")
    else:
        key = ""
    found = pod
    for part in path.split("."):
        found = found.get(part, {})
    return str(found.get(key, "") if key else found or "")


def message(folder: Path) -> str:
    try:
        return (folder / "termination-log").read_text()
    except FileNotFoundError:
        return ""


def _status(pod: Any, phase: str, state: Mapping[str, Any], *, ready: bool) -> dict[str, Any]:
    now = _now()
    container = pod["spec"]["containers"][0]
    conditions = [
        {"type": kind, "status": str(ready), "lastTransitionTime": now}
        for kind in ("Ready", "ContainersReady")
    ]
    status = {
        "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0,
        "ready": ready, "started": ready, "state": dict(state),
    }  # fmt: skip
    return {"phase": phase, "conditions": conditions, "containerStatuses": [status]}


def ended(pod: Any, code: int, reason: str, message: str) -> dict[str, Any]:
    started = pod["status"].get("startTime") or _now()
    state = {
        "exitCode": code, "reason": reason, "message": message, "startedAt": started, "finishedAt": _now()
    }  # fmt: skip
    return _status(pod, "Failed" if code else "Succeeded", {"terminated": state}, ready=False)


def rejected(pod: Any) -> dict[str, Any]:
    """Its containers never began: a device that the scheduler counted on is not to be had."""
    text = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices, which is unexpected"
    reason = "UnexpectedAdmissionError"
    return {"phase": "Failed", "reason": reason, "message": f"Pod {text}", "containerStatuses": None}


def waiting(pod: Any, message: str) -> dict[str, Any]:
    state = {"reason": "CreateContainerConfigError", "message": message}
    return _status(pod, "Pending", {"waiting": state}, ready=False)


def begun(pod: Any) -> dict[str, Any]:
    return _status(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def here(pod: Any, environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Paths below a mount lead to a folder of the pod; the termination message to a file in it."""
    mounts = {m["mountPath"]: m["name"] for m in pod["spec"]["containers"][0].get("volumeMounts", ())}
    for name in mounts.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    found = {}
    for name, value in environment.items():
        mount = next((m for m in mounts if value == m or value.startswith(f"{m}/")), None)
        inside = mount is not None and not name.startswith("AICSWEEP_")
        found[name] = f"{folder / mounts[mount]}{value.removeprefix(mount)}" if inside and mount else value
    found["AICSWEEP_TERMINATION_LOG"] = str(folder / "termination-log")
    # As images have it.
    return {"PATH": os.environ.get("PATH", ""), **found}
