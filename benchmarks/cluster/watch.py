"""What a benchmark sees of the cluster: when Jobs came and ended, and what was written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from k8s import names
from tests.cluster.api_writes import Writes, counted
from tests.cluster.rig import Rig


def writes(rig: Rig) -> Writes:
    """All so far, by whomever, the refused ones too."""

    async def metrics() -> str:
        async with rig.api.session.get(f"{rig.api.server}/metrics") as answer:
            return await answer.text()

    return counted(rig.do(metrics()))


@dataclass
class Seen:
    """A Job: when it was seen first and when it was seen ended, of `time.time`."""

    sweep: str
    stage: str
    wave: int
    made_at: float
    ended_at: float | None = None


@dataclass
class Timeline:
    """All Jobs of aicsweep, by uid."""

    jobs: dict[str, Seen] = field(default_factory=dict)

    @classmethod
    def of_all(cls, rig: Rig) -> Timeline:
        timeline = cls()

        async def begin() -> None:
            rig.background(timeline._follow(rig))

        rig.do(begin())
        return timeline

    async def _follow(self, rig: Rig) -> None:
        async for event, job in rig.api.changes("/apis/batch/v1/jobs", f"{names.MANAGED_BY}={names.MANAGER}"):
            now, uid, labels = time.time(), job["metadata"]["uid"], job["metadata"]["labels"]
            if event != "DELETED" and uid not in self.jobs:
                sweep, stage = labels[names.LABEL_UID], labels[names.LABEL_STAGE]
                self.jobs[uid] = Seen(sweep, stage, int(labels.get(names.LABEL_WAVE, 0)), now)
            if _ended(job) and uid in self.jobs and self.jobs[uid].ended_at is None:
                self.jobs[uid].ended_at = now

    def of(self, sweep: str) -> dict[tuple[str, int], Seen]:
        """Jobs of the Sweep of this uid, by stage and wave."""
        return {(job.stage, job.wave): job for job in list(self.jobs.values()) if job.sweep == sweep}

    def later_s(self, sweep: str) -> list[float]:
        """For each Job but the first of a Sweep that has ended in one round and at most two waves: seconds
        since the last of the events that permit it."""
        jobs = self.of(sweep)
        return [
            job.made_at - max(jobs[before].ended_at or 0.0 for before in _permit(stage, wave, jobs))
            for (stage, wave), job in jobs.items()
            if stage != names.PLAN
        ]


def _permit(stage: str, wave: int, jobs: Mapping[tuple[str, int], Seen]) -> list[tuple[str, int]]:
    """The Jobs whose ends permit this one."""
    if stage == names.EXPORT:
        return [(names.PLAN, 0)]
    if stage == names.COMPILE:
        return [(names.EXPORT, 0)]
    if stage == names.MEASURE:
        # The second wave also waits for the canary.
        return [(names.COMPILE, wave), *([(names.MEASURE, 0)] if wave else [])]
    return [key for key in jobs if key[0] == names.MEASURE]


def _ended(job: Mapping[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
