"""One pass over one Sweep: what is known of it, and what was decided so far. Pure.

`decide`, `measuring` and `account` read what was observed and add actions, events and status here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from k8s import draft, names
from k8s.actions import Action, Create, Decision, Delete, Event
from k8s.child import Child, Defaults
from k8s.draft import Draft
from k8s.facts import PlanFacts
from k8s.observe import BAD_INPUT, FAILED, JobSeen, Observed
from runner.spec import Sweep

RECHECK_S = 30.0


class Turn:
    """A pass. `stop`: why no further wave begins, in words, and as the `stop_reason` for which the Sweep fails if
    nothing was measured; `failed`: the Sweep has just failed."""

    def __init__(
        self,
        sweep: Mapping[str, Any],
        model: Sweep,
        seen: Observed,
        now: datetime,
        defaults: Defaults,
        drafted: Draft,
    ) -> None:
        self.sweep, self.model, self.seen, self.now, self.draft = sweep, model, seen, now, drafted
        self.child = Child(sweep, model, defaults, drafted.round)
        self.limits = model.spec.limits
        self.decision = Decision(drafted.status)
        self.stop = self.stop_reason = ""
        self.failed = False

    def act(self, *actions: Action) -> None:
        self.decision.actions.extend(actions)

    def event(self, reason: str, message: str, kind: str = "Normal") -> None:
        self.decision.events.append(Event(kind, reason, message[:1000]))

    def again_in(self, seconds: float) -> None:
        before = self.decision.requeue_s
        self.decision.requeue_s = seconds if before is None else min(before, seconds)

    def phase(self, phase: str, message: str) -> None:
        """Where the Sweep is; nothing changes any more once it has failed in this pass."""
        if not self.failed:
            self.draft.phase(phase, message)
            self.draft.condition(draft.PROGRESSING, True, phase, message)

    def end(self, name: str, reason: str, message: str) -> None:
        """The terminal condition of this generation."""
        self.failed = name == draft.FAILED
        self.draft.phase(name, message)
        self.draft.condition(name, True, reason, message)
        self.draft.condition(draft.PROGRESSING, False, name, message)
        self.draft.text("eta", "")
        self.draft.text("waiting", "")
        self.event(reason, message, "Warning" if self.failed else "Normal")
        self.again_in(0)

    def begin_no_more(self, reason: str, message: str) -> None:
        """What is open may end; then there is a table of what there is."""
        self.stop_reason, self.stop = reason, message

    def fail(self, reason: str, job: JobSeen) -> None:
        """What every pod of the Job would meet is the Sweep's fault, whatever the stage."""
        if job.reason == BAD_INPUT:
            reason = "BadInput"
        self.end(
            draft.FAILED, reason, f"{job.stage} failed: {job.error() or job.reason or 'its pods failed'}"
        )

    def job(self, name: str, manifest: dict[str, Any]) -> JobSeen | None:
        """The Job of that name; where there is none it is created, and None for now."""
        job = self.seen.jobs.get(name)
        if job is None:
            self.create(manifest)
        return None if job is None or job.deleting else job

    def create(self, manifest: dict[str, Any]) -> None:
        self.act(Create(manifest))

    def run_again(self, job: JobSeen) -> None:
        """Its message is lost; the work is safe to repeat."""
        self.act(Delete(job.name, job.uid))
        self.event("MessageLost", f"the message of {job.name} is lost, it runs again", "Warning")

    def strikes(self) -> dict[str, int]:
        """By node, those that count now; see `Observed.strikes`."""
        return self.seen.strikes(self.draft.generation, self.draft.round, self.now)

    def ended(self, job: JobSeen) -> bool:
        """Whether nothing more will come of it. Bad input that every pod would meet fails the Sweep."""
        if job.finished == FAILED and job.reason == BAD_INPUT:
            if not self.failed:
                self.fail("BadInput", job)
            return False
        return bool(job.finished) or self.lost(job)

    def lost(self, job: JobSeen) -> bool:
        """Only pods are left that should have ended long ago: their node is gone and never says so."""
        if job.active or not job.terminating:
            return False
        ending = [pod for pod in job.pods if pod.deleted_at]
        if ending and all(pod.is_lost(self.now) for pod in ending):
            return True
        self.again_in(RECHECK_S)
        return False

    def of_plan(self, facts: PlanFacts, stage: str) -> list[JobSeen]:
        label = facts.plan[: names.PLAN_LABEL_DIGITS]
        return [job for job in self.seen.jobs.values() if job.plan == label and job.stage == stage]
