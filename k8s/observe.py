"""What is there: a Sweep's Jobs and pods, sorted into a small structure that `decide` branches on. Pure.

caches --jobs--> pods_wanted --> (read) pods --> observe --> Observed --> decide
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from k8s import names
from k8s.pod_seen import PodSeen, moment, pod_seen

COMPLETE, FAILED = "Complete", "Failed"
# A Job's failure that says: every pod would meet this (podFailurePolicy, exit code 2).
BAD_INPUT = "PodFailurePolicy"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class JobSeen:
    """One Job. `finished` is empty, Complete or Failed (then with `reason`); counts are of indexes, or pods, but
    `failed_pods` of pods, also of those that somebody deleted since. `targets` are the nodes that a plan Job plans
    for."""

    name: str
    uid: str
    stage: str
    generation: str
    plan: str = ""
    wave: int = 0
    target: int | None = None
    round: int = 1
    created: datetime | None = None
    completions: int = 1
    parallelism: int = 1
    suspended: bool = False
    active: int = 0
    ready: int = 0
    terminating: int = 0
    succeeded: int = 0
    failed: int = 0
    failed_pods: int = 0
    finished: str = ""
    reason: str = ""
    finished_at: datetime | None = None
    deleted_at: datetime | None = None
    targets: Sequence[str] = ()
    pods: Sequence[PodSeen] = ()

    @property
    def deleting(self) -> bool:
        return self.deleted_at is not None

    @property
    def bare(self) -> bool:
        """It should have pods, and never had one."""
        had = self.active or self.terminating or self.ended or self.failed_pods or self.pods
        wants_none = self.finished or self.suspended or self.deleting or not self.parallelism
        return not (had or wants_none)

    def gone_by(self, then: datetime) -> bool:
        """Whether it was deleted before `then`: whatever still holds it is not waited for."""
        return self.deleted_at is not None and self.deleted_at < then

    @property
    def ended(self) -> int:
        """Indexes that will not run again."""
        return self.succeeded + self.failed

    def message(self) -> Mapping[str, Any] | None:
        """The termination message of its pod that succeeded, or None if it is lost."""
        return next((p.message for p in self.pods if p.phase == "Succeeded" and p.message), None)

    def error(self) -> str:
        """What its last failed pod said."""
        for pod in reversed(self.pods):
            if pod.message and "error" in pod.message:
                return str(pod.message["error"])
            if pod.reason:
                return pod.reason
        return ""


@dataclass(frozen=True)
class Observed:
    """All children of one Sweep. `nodes` are those with devices, by name: how many (for pinned targets)."""

    jobs: Mapping[str, JobSeen] = field(default_factory=dict)
    nodes: Mapping[str, int] = field(default_factory=dict)

    def waiting(self, now: datetime) -> str:
        """Why nothing goes on: the commonest reason of waiting pods, in the scheduler's or kubelet's words, or
        what the last pod of a Job said that failed and is tried again, or that there are no pods."""
        reasons = Counter(pod.waiting for job in self.jobs.values() for pod in job.pods if pod.waiting)
        if reasons:
            return reasons.most_common(1)[0][0]
        open_ = [job for job in self.jobs.values() if not job.finished and not job.deleting]
        for job in open_:
            if not job.ready and not job.suspended and job.error():
                return f"{job.stage} is tried again: {job.error()}"
        for job in open_:
            if job.bare and job.created and now - job.created > BARE_AFTER:
                why = f"e.g. because of a quota: kubectl describe job {job.name}"
                return f"no pod of Job {job.name} could be made, {why}"
        # A wave that a queue holds beside one that is measured holds up nothing.
        held = (
            "" if any(job.ready for job in open_) else next((job.name for job in open_ if job.suspended), "")
        )
        return held and f"Job {held} is suspended, by a queue until there is room, or by hand"

    def strikes(self, generation: int, round_number: int, now: datetime) -> dict[str, int]:
        """By node that a pod was on in this round or the one before, in which lots may have failed that are tried
        again now: failures that were the node's, i.e. its device's or host's fault, or it went away with the
        pod. 0 where there was none; nodes are missing of whose Jobs no pod was read.

        Of pods of this generation alone: those of an earlier one may have failed for what an edit has mended, such
        as a device group. A node that is sick is struck again by its next two pods."""
        counts: dict[str, int] = {}
        for job in self.jobs.values():
            ours = job.generation == str(generation) and job.round in (round_number - 1, round_number)
            if ours and job.stage == names.MEASURE:
                for pod in job.pods:
                    if pod.node:
                        counts[pod.node] = counts.get(pod.node, 0) + pod.strikes(now)
        return counts


# The Job controller makes pods within a second, unless it is refused.
BARE_AFTER = timedelta(seconds=20)


def pods_wanted(jobs: Iterable[Object]) -> list[str]:
    """Names of the Jobs whose pods must be read for a decision.

    Those of plan and merge Jobs that ended (their messages), of Jobs with failed pods (why, where), and of
    Jobs that hold nothing but waiting or terminating pods.
    """
    wanted = []
    for job in jobs:
        status = job.get("status", {})
        stage = job["metadata"].get("labels", {}).get(names.LABEL_STAGE)
        finished = bool(_finished(job)[0])
        active, ready = status.get("active", 0), status.get("ready", 0)
        if (
            (stage in (names.PLAN, names.MERGE) and finished)
            or status.get("failed", 0)
            or (not finished and (active > ready or status.get("terminating", 0)))
        ):
            wanted.append(job["metadata"]["name"])
    return wanted


def observe(
    jobs: Iterable[Object], pods: Iterable[Object] = (), nodes: Mapping[str, int] | None = None
) -> Observed:
    """The `jobs` of one Sweep, which are those that name it as their owner, and pods of them."""
    by_job: dict[str, list[PodSeen]] = {}
    for pod in sorted(pods, key=lambda p: str(p["metadata"].get("creationTimestamp", ""))):
        seen = pod_seen(pod)
        by_job.setdefault(seen.job, []).append(seen)
    seen_jobs = (_job(job, by_job.get(job["metadata"]["name"], ())) for job in jobs)
    return Observed({job.name: job for job in seen_jobs}, nodes or {})


def _job(job: Object, pods: Sequence[PodSeen]) -> JobSeen:
    meta, spec, status = job["metadata"], job["spec"], job.get("status", {})
    labels = meta.get("labels", {})
    finished, reason, at = _finished(job)
    indexed = spec.get("completionMode") == "Indexed"
    return JobSeen(
        name=meta["name"],
        uid=meta["uid"],
        stage=labels.get(names.LABEL_STAGE, ""),
        generation=labels.get(names.LABEL_GENERATION, ""),
        plan=labels.get(names.LABEL_PLAN, ""),
        wave=_number(labels.get(names.LABEL_WAVE)) or 0,
        target=_number(labels.get(names.LABEL_TARGET)),
        round=_number(labels.get(names.LABEL_ROUND)) or 1,
        created=moment(meta.get("creationTimestamp")),
        completions=spec.get("completions") or 1,
        parallelism=spec.get("parallelism", 1),
        suspended=bool(spec.get("suspend")),
        active=status.get("active", 0),
        ready=status.get("ready", 0),
        terminating=status.get("terminating", 0),
        succeeded=indexes(status.get("completedIndexes", "")) if indexed else status.get("succeeded", 0),
        failed=indexes(status.get("failedIndexes", "")) if indexed else 0,
        failed_pods=status.get("failed", 0),
        finished=finished,
        reason=reason,
        finished_at=at,
        deleted_at=moment(meta.get("deletionTimestamp")),
        targets=_nodes(meta.get("annotations", {}).get(names.ANNOTATION_TARGETS, "")),
        pods=tuple(pods),
    )


def _nodes(text: str) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads(text)))
    except (ValueError, TypeError):
        return ()


def _number(text: str | None) -> int | None:
    # A label that somebody wrote by hand must not stop the pass of a whole Sweep.
    return int(text) if text is not None and text.isdecimal() else None


def _finished(job: Object) -> tuple[str, str, datetime | None]:
    for condition in job.get("status", {}).get("conditions", ()):
        if condition["type"] in (COMPLETE, FAILED) and condition["status"] == "True":
            return condition["type"], condition.get("reason", ""), moment(condition.get("lastTransitionTime"))
    return "", "", None


def indexes(text: str) -> int:
    """How many indexes `0,2-4` names."""
    count = 0
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def device_nodes(nodes: Iterable[Object], resource: str, selector: Mapping[str, str]) -> dict[str, int]:
    """Ready, schedulable nodes that offer `resource` and carry the selector's labels: how many devices each."""
    found = {}
    for node in nodes:
        labels, spec, status = (
            node["metadata"].get("labels", {}),
            node.get("spec", {}),
            node.get("status", {}),
        )
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
        devices = int(status.get("allocatable", {}).get(resource, 0))
        if ready and devices and not spec.get("unschedulable") and selector.items() <= labels.items():
            found[node["metadata"]["name"]] = devices
    return dict(sorted(found.items()))
