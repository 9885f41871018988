"""A Job and its pods as the API server has them, no more of them than is read."""

from __future__ import annotations

from typing import Any

from k8s import names


def job(name: str = "j", *, stage: str = names.MEASURE, spec: Any = None, **status: Any) -> dict[str, Any]:
    labels = {
        names.LABEL_STAGE: stage,
        names.LABEL_GENERATION: "1",
        names.LABEL_WAVE: "3",
        names.LABEL_ROUND: "2",
        names.LABEL_PLAN: "p",
    }
    meta = {"name": name, "uid": f"uid-{name}", "labels": labels}
    return {
        "metadata": meta,
        "spec": spec or {"completionMode": "Indexed", "completions": 9},
        "status": status,
    }


def pod(phase: str, *, node: str = "n1", **status: Any) -> dict[str, Any]:
    """Of the Job j."""
    labels = {"batch.kubernetes.io/job-name": "j"}
    return {"metadata": {"labels": labels}, "spec": {"nodeName": node}, "status": {"phase": phase, **status}}


def failed(exit_code: int, message: str = "") -> dict[str, Any]:
    """A pod whose program has ended so."""
    terminated = {"exitCode": exit_code, "message": message}
    return pod("Failed", containerStatuses=[{"state": {"terminated": terminated}}])
