"""What a benchmark on the test cluster sees: when Jobs came and ended, what the API server has written."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from k8s import names
from tests.cluster.rig import Rig

_REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}
# Not counted: Events, Leases and Nodes, nor what no Sweep causes.
_COUNTED = {"jobs", "pods", "sweeps"}

# (resource and subresource, verb)
Writes = Counter[tuple[str, str]]


def writes(rig: Rig) -> Writes:
    """All writes so far to Jobs, pods and Sweeps by whomever, the refused ones too; by the API server's metrics."""

    async def metrics() -> str:
        async with rig.api.session.get(f"{rig.api.server}/metrics") as answer:
            return await answer.text()

    found: Writes = Counter()
    for text, number in _REQUESTS.findall(rig.do(metrics())):
        labels = dict(_LABEL.findall(text))
        if labels["verb"] in _WRITES and labels["resource"] in _COUNTED:
            of = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            found[of, labels["verb"]] += int(float(number))
    return found


def of_children(found: Writes) -> int:
    """Those to Jobs and pods."""
    return sum(count for (of, _), count in found.items() if not of.startswith("sweeps"))


@dataclass
class _Job:
    sweep: str
    stage: str
    wave: int
    made_at: float
    ended_at: float | None = None


@dataclass
class Timeline:
    """When each Job was seen first, and when it was seen ended; of `time.time`."""

    jobs: dict[str, _Job] = field(default_factory=dict)

    def begin(self, rig: Rig) -> Timeline:
        async def begin() -> None:
            rig.background(self._follow(rig))

        rig.do(begin())
        return self

    async def _follow(self, rig: Rig) -> None:
        async for event, job in rig.api.changes("/apis/batch/v1/jobs", f"{names.MANAGED_BY}={names.MANAGER}"):
            now, labels = time.time(), job["metadata"]["labels"]
            uid = job["metadata"]["uid"]
            if event != "DELETED" and uid not in self.jobs:
                sweep, stage = labels[names.LABEL_UID], labels[names.LABEL_STAGE]
                self.jobs[uid] = _Job(sweep, stage, int(labels.get(names.LABEL_WAVE, 0)), now)
            if _ended(job) and self.jobs[uid].ended_at is None:
                self.jobs[uid].ended_at = now

    def ended(self, which: Callable[[_Job], bool]) -> int:
        """How many have."""
        return sum(job.ended_at is not None for job in list(self.jobs.values()) if which(job))

    def of(self, sweep: Mapping[str, Any]) -> dict[tuple[str, int], _Job]:
        """A Sweep's Jobs by stage and wave."""
        uid = sweep["metadata"]["uid"]
        return {(job.stage, job.wave): job for job in list(self.jobs.values()) if job.sweep == uid}

    def later(self, sweep: Mapping[str, Any]) -> Iterator[float]:
        """For each Job of a Sweep of one round and two waves but the first one: seconds since the last of the
        events that permit it."""
        jobs = self.of(sweep)
        permit = {
            names.EXPORT: [names.PLAN], names.COMPILE: [names.EXPORT],
            names.MEASURE: [names.COMPILE, names.MEASURE], names.MERGE: [names.MEASURE],
        }  # fmt: skip
        for (stage, wave), job in jobs.items():
            ends = [
                other.ended_at
                for (before, number), other in jobs.items()
                if before in permit.get(stage, ())
                # A measure Job follows its own compile Job and the canary, wave 0.
                and (stage != names.MEASURE or number == (wave if before == names.COMPILE else 0))
                and other is not job
            ]
            if stage != names.PLAN:
                yield job.made_at - max(at for at in ends if at is not None)


def _ended(job: Mapping[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
