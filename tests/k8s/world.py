"""A cluster in memory: Jobs that the decisions create, and pods that end as a test says. No API, no time of its own.

The oracle of `decide`: whatever order things happen in, the flow reaches its end, each lot once.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from k8s import names
from k8s.actions import Create, Decision, Delete, Patch
from k8s.child import Defaults
from k8s.decide import decide
from k8s.observe import device_nodes, observe, pods_wanted
from k8s.status import SweepStatus

DEFAULTS = Defaults(store="s3://bench/aicsweep")
START = datetime(2026, 1, 1, tzinfo=UTC)
RESOURCE = "qualcomm.com/qaic"

PLAN = {"plan": "a" * 32, "lots": 10, "canary": 2, "exports": 2, "binaries": 20, "cells": 40, "slots": 40, "unfit": 3,
        "todo": 40, "most_slots_a_lot": 5, "device_s": 6000.0, "compile_s": 900.0}  # fmt: skip
MERGE = {
    "table": "tables/t1",
    "wanted": 0,
    "counts": {"ok": 40, "unfit": 3},
    "device_s": {"measuring": 5000.0},
}
SMALL = {"limits": {"parallelism": 1}}

Message = dict[str, Any]


def sweep(**spec: Any) -> dict[str, Any]:
    """A Sweep as the API server has it."""
    metadata = {"name": "cnn", "namespace": "bench", "uid": "u-1", "generation": 1, "resourceVersion": "1"}
    wanted = {"backend": "fake", "models": ["resnet50"], **spec}
    return {"apiVersion": "aicsweep.dev/v1alpha1", "kind": "Sweep", "metadata": metadata, "spec": wanted}


def node(name: str, devices: int = 2, **labels: str) -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"conditions": ready, "allocatable": {RESOURCE: str(devices)}},
    }


class World:
    """`plans` are the messages of plan pods, round after round; `merges` likewise."""

    def __init__(self, plans: list[Message], merges: list[Message], nodes: int = 0, **spec: Any) -> None:
        self.sweep = sweep(**spec)
        self.plans, self.merges = list(plans), list(merges)
        self.nodes = [node(f"n{number}") for number in range(nodes)]
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, list[dict[str, Any]]] = {}
        self.now = START
        self.created: list[str] = []
        self.events: list[str] = []
        self.told: list[str] = []
        self.most_at_once = 0
        self._uids = 0

    # -- the controller's side

    def decide(self) -> Decision:
        wanted = pods_wanted(self.jobs.values())
        pods = [pod for name in wanted for pod in self.pods.get(name, ())]
        seen = observe(self.jobs.values(), pods, device_nodes(self.nodes, RESOURCE, {}))
        return decide(copy.deepcopy(self.sweep), seen, self.now, DEFAULTS)

    def passes(self, most: int = 20) -> Decision:
        """Passes until one changes nothing; the last decision."""
        for _ in range(most):
            decision = self.decide()
            before = self.sweep.get("status")
            self.apply(decision)
            if not decision.actions and before == decision.status:
                return decision
        raise AssertionError(f"never at rest: {decision.actions}, {decision.status}")

    def apply(self, decision: Decision) -> None:
        for action in decision.actions:
            match action:
                case Create(manifest):
                    self._create(manifest)
                case Delete(name, uid, foreground):
                    self._delete(name, uid, foreground)
                case Patch(name, body):
                    self.jobs[name]["spec"].update(body["spec"])
        self.events += [event.reason for event in decision.events]
        self.told += [event.message for event in decision.events]
        # As strict as the API server; a status it refuses would never be written.
        SweepStatus.model_validate_json(json.dumps(decision.status), strict=True)
        self.sweep["status"] = decision.status
        held = sum(
            min(job["spec"]["completions"] - self._ended(job), job["spec"]["parallelism"])
            for job in self.unfinished(names.MEASURE)
        )
        self.most_at_once = max(self.most_at_once, held)

    # -- the cluster's side

    def unfinished(self, *stages: str) -> list[dict[str, Any]]:
        return [
            job
            for job in self.jobs.values()
            if not job["status"].get("conditions") and (not stages or self.stage(job) in stages)
        ]

    def stage(self, job: dict[str, Any]) -> str:
        return str(job["metadata"]["labels"][names.LABEL_STAGE])

    def finish(
        self, name: str, message: Message | None = None, failed: str = "", indexes: list[int] = ()
    ) -> None:  # type: ignore[assignment]
        """End a Job: all its indexes succeed but those in `indexes`, or it fails for the reason `failed`."""
        job = self.jobs[name]
        status, spec = job["status"], job["spec"]
        status.update(active=0, ready=0)
        if spec.get("completionMode") == "Indexed":
            good = [i for i in range(spec["completions"]) if i not in indexes]
            status["completedIndexes"] = ",".join(map(str, good))
            status["failedIndexes"] = ",".join(map(str, indexes))
            if indexes:
                failed = failed or "FailedIndexes"
                status["failed"] = len(indexes)
        elif not failed:
            status["succeeded"] = 1
        kind = "Failed" if failed else "Complete"
        at = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        status["conditions"] = [{"type": kind, "status": "True", "reason": failed, "lastTransitionTime": at}]
        if self.stage(job) == names.PLAN and not failed and message is None:
            message = self.plans.pop(0)
        if self.stage(job) == names.MERGE and not failed and message is None:
            message = self.merges.pop(0)
        if message is not None:
            self.pod(
                name, phase="Failed" if failed else "Succeeded", exit_code=2 if failed else 0, message=message
            )
            if failed:
                status["failed"] = 1

    def pod(self, job: str, *, phase: str, exit_code: int | None = None, message: Message | None = None,
            node: str = "", waiting: str = "", deleted_at: datetime | None = None) -> None:  # fmt: skip
        metadata: dict[str, Any] = {"labels": {"batch.kubernetes.io/job-name": job}}
        if deleted_at:
            metadata["deletionTimestamp"] = deleted_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        status: dict[str, Any] = {"phase": phase, "conditions": []}
        if waiting:
            status["conditions"] = [{"type": "PodScheduled", "status": "False", "message": waiting}]
        if exit_code is not None:
            text = "" if message is None else json.dumps(message)
            status["containerStatuses"] = [
                {"state": {"terminated": {"exitCode": exit_code, "message": text}}}
            ]
        self.pods.setdefault(job, []).append(
            {"metadata": metadata, "spec": {"nodeName": node}, "status": status}
        )

    def run(
        self, choose: Callable[[list[str]], str] = lambda some: some[0], most: int = 300
    ) -> dict[str, Any]:
        """Passes and ending Jobs in turn, until the Sweep has a terminal phase; the status."""
        for _ in range(most):
            self.passes()
            if self.sweep["status"].get("phase") in ("Complete", "Failed", "Invalid"):
                return dict(self.sweep["status"])
            open_ = [job["metadata"]["name"] for job in self.unfinished()]
            if open_:
                self.finish(choose(sorted(open_)))
            else:
                self.now += timedelta(seconds=60)
        raise AssertionError(f"no end: {self.sweep['status']}")

    def begin_measuring(self) -> None:
        """Plan, exports and the canary's binaries are done, and the canary is being measured."""
        for _ in range(3):
            self.passes()
            self.finish(self.unfinished()[0]["metadata"]["name"])
        self.passes()

    def edit(self, **spec: Any) -> None:
        self.sweep["spec"] = {**self.sweep["spec"], **spec}
        self.sweep["metadata"]["generation"] += 1

    def names(self, stage: str) -> list[str]:
        """Jobs of a stage ever created, in order, by what follows the key."""
        return [name.split("-", 2)[2] for name in self.created if name.split("-", 2)[2].startswith(stage)]

    def _create(self, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        assert name not in self.jobs, f"{name} created twice"
        self._uids += 1
        job = copy.deepcopy(manifest)
        at = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        job["metadata"].update(uid=f"job-{self._uids}", creationTimestamp=at)
        count = min(job["spec"].get("parallelism", 1), job["spec"].get("completions", 1))
        job["status"] = {"active": count, "ready": count}
        self.jobs[name] = job
        self.created.append(name)

    def _delete(self, name: str, uid: str, foreground: bool) -> None:
        assert self.jobs[name]["metadata"]["uid"] == uid
        del self.jobs[name]
        self.pods.pop(name, None)

    @staticmethod
    def _ended(job: dict[str, Any]) -> int:
        done = job["status"].get("completedIndexes", "")
        return len(done.split(",")) if done else 0


def condition(status: Message, name: str) -> Any:
    """A condition of a status, if it is there."""
    return next((c for c in status["conditions"] if c["type"] == name), None)


def environment(job: Message) -> dict[str, Any]:
    """What the pods of a Job are told."""
    return {e["name"]: e.get("value") for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}


def world(plan: Message = PLAN, merge: Message = MERGE, **spec: Any) -> World:
    """One whose plan and merge pods say so."""
    return World([plan], [merge], **{**SMALL, **spec})
