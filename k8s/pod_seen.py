"""One pod, sorted into what a decision needs of it: how it ended or why it waits, and whose fault that is. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from runner.errors import EXIT_INFRASTRUCTURE, INTERNAL, STORE

LOST_NODE_STRIKES = 2
# A pod that should have ended so long ago is on a node that is lost. When it is deleted its grace is counted in.
LOST_AFTER = timedelta(seconds=60)


@dataclass(frozen=True)
class PodSeen:
    """What a decision needs of one pod. `message` is its termination message, parsed where it is JSON; `reason`
    is why it ended without its program's doing, `waiting` what it waits for."""

    job: str
    node: str = ""
    phase: str = ""
    exit_code: int | None = None
    message: Mapping[str, Any] | None = None
    reason: str = ""
    waiting: str = ""
    disrupted: bool = False
    deleted_at: datetime | None = None

    @property
    def blames_its_node(self) -> bool:
        """Its device or host failed it, or the kubelet refused it: no container of it began, e.g. because the device
        that it was promised is unhealthy."""
        asked_to_go = self.disrupted or self.deleted_at is not None
        refused = self.phase == "Failed" and self.exit_code is None
        others_fault = (self.message or {}).get("reason") in (STORE, INTERNAL)
        failed = self.exit_code == EXIT_INFRASTRUCTURE and not others_fault
        return (refused or failed) and not asked_to_go

    def is_lost(self, now: datetime) -> bool:
        """It should have ended long ago: its node is gone and never says so."""
        return self.deleted_at is not None and now - self.deleted_at > LOST_AFTER

    def strikes(self, now: datetime) -> int:
        """Against its node. A pod that is ending, of a node that is drained or of a Sweep that was edited, is none."""
        if self.blames_its_node:
            return 1
        return LOST_NODE_STRIKES if self.phase == "Running" and self.is_lost(now) else 0


def pod_seen(pod: Mapping[str, Any]) -> PodSeen:
    """One pod, whole or pruned."""
    meta, status = pod["metadata"], pod.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    states = [c.get("state", {}) for c in status.get("containerStatuses", ())]
    ended = next((s["terminated"] for s in states if "terminated" in s), None)
    held: Mapping[str, Any] = next((s["waiting"] for s in states if "waiting" in s), {})
    scheduled = conditions.get("PodScheduled", {})
    waiting = ""
    if status.get("phase") == "Pending":
        if scheduled.get("status") == "False":
            waiting = scheduled.get("message") or scheduled.get("reason", "")
        elif held.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            waiting = f"{held['reason']}: {held.get('message', '')}".rstrip(": ")
    reason = (ended or {}).get("reason") or ""
    if status.get("reason"):
        # The kubelet's or the cluster's word on the whole pod.
        reason = f"{status['reason']}: {status.get('message', '')}".rstrip(": ")
    return PodSeen(
        job=meta.get("labels", {}).get("batch.kubernetes.io/job-name", ""),
        node=pod.get("spec", {}).get("nodeName", ""),
        phase=status.get("phase", ""),
        exit_code=ended.get("exitCode") if ended else None,
        message=_message((ended or {}).get("message", "")),
        reason="" if reason in ("Completed", "Error") else str(reason),
        waiting=waiting[:500],
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        deleted_at=moment(meta.get("deletionTimestamp")),
    )


def _message(text: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def moment(text: str | None) -> datetime | None:
    """Of a time as the API server writes it."""
    return datetime.fromisoformat(text) if text else None
