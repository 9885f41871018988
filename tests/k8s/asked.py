"""A Sweep of which things were asked to be measured again, as the API server has it."""

from __future__ import annotations

from k8s.api import Object


def sweep(*ids: str, **status: object) -> Object:
    """With a request of each of these ids."""
    again = [{"id": id_, "where": "True"} for id_ in ids]
    meta = {"namespace": "team-a", "name": "it", "generation": 3, "uid": "u"}
    return {"metadata": meta, "spec": {"models": ["resnet50"], "again": again}, "status": status}
