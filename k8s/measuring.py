"""The lots of a plan as waves of a compile and a measure Job each, or as one pinned Job a target. Pure."""

from __future__ import annotations

from datetime import timedelta

from k8s import account, jobs, names
from k8s.actions import Patch
from k8s.facts import PlanFacts, Wave, waves
from k8s.observe import JobSeen
from k8s.status import MOST_EXCLUDED
from k8s.turn import Turn
from runner.errors import counted

OPEN_WAVES = 2
COMPILED_AHEAD = 2
# About so often a wave is given more devices.
WIDENINGS = 4
STRIKES_TO_EXCLUDE = 2
CANARY_FAILED = "CanaryFailed"


def may_begin(turn: Turn, facts: PlanFacts) -> bool:
    """Whether there is anything to export and compile for: not where the first wave is over the budget already.
    All pinned Jobs of a plan are one wave."""
    if turn.of_plan(facts, names.MEASURE):
        return True
    first = Wave(0, 0, facts.lots) if facts.targets else next(waves(facts, turn.limits.parallelism))
    return account.within_budget(turn, facts, first)


def done(turn: Turn, facts: PlanFacts) -> bool:
    """Begin whatever may begin now; whether all lots have ended, or none further will begin."""
    finished = _pinned(turn, facts) if facts.targets else _in_waves(turn, facts)
    ended = sum(job.ended for job in turn.of_plan(facts, names.MEASURE))
    if not finished:
        told = account.in_steps(facts, ended)
        turn.phase("Measuring", f"round {turn.draft.round}: {told} of {counted(facts.lots, 'lot')}")
    return finished and not turn.failed


def _in_waves(turn: Turn, facts: PlanFacts) -> bool:
    """A wave is measured once it is compiled; wave 0, the canary, ends before any other begins."""
    struck = _struck(turn)
    elsewhere = 0 in turn.strikes().values()
    opened = unstarted = 0
    canary_open = False
    spare = turn.limits.parallelism - _held(turn, facts)
    for wave in waves(facts, turn.limits.parallelism):
        job = turn.seen.jobs.get(names.job(turn.sweep, facts.plan, names.MEASURE, wave.number))
        if job is not None:
            if not turn.ended(job):
                spare -= _widen(turn, job, spare)
                opened += 1
                canary_open = canary_open or (wave.number == 0 and facts.canary > 0)
            elif (
                wave.number == 0
                and facts.canary
                and job.failed == job.completions
                and wave.count < facts.lots
            ):
                why = job.error() or "the table says why"
                turn.begin_no_more(CANARY_FAILED, f"every lot of the canary failed: {why}")
            continue
        if turn.stop or turn.failed:
            break
        unstarted += 1
        if unstarted > COMPILED_AHEAD:
            break
        if unstarted == 1 and not account.within_budget(turn, facts, wave):
            break
        compiled = _compiled(turn, facts, wave)
        if not compiled or unstarted > 1 or canary_open or opened >= OPEN_WAVES or spare < 1:
            continue
        if opened and turn.model.spec.pods.queue_name:
            # It could not be widened later.
            continue
        turn.create(
            jobs.measure_job(turn.child, facts, wave, parallelism=spare, struck=struck, elsewhere=elsewhere)
        )
        opened += 1
        unstarted -= 1
        # What it will hold is not observed yet.
        break
    return not opened and (not unstarted or bool(turn.stop))


def _compiled(turn: Turn, facts: PlanFacts, wave: Wave) -> bool:
    if not facts.binaries or turn.model.spec.execution == "combined":
        return True
    name = names.job(turn.sweep, facts.plan, names.COMPILE, wave.number)
    job = turn.job(name, jobs.compile_job(turn.child, facts, wave))
    return job is not None and turn.ended(job)


def _held(turn: Turn, facts: PlanFacts) -> int:
    """Devices that open measure Jobs hold or will hold."""
    open_ = [job for job in turn.of_plan(facts, names.MEASURE) if not job.finished]
    return sum(min(job.completions - job.ended, job.parallelism) for job in open_)


def _widen(turn: Turn, job: JobSeen, spare: int) -> int:
    """A wave that began beside another gets what that one leaves free: a quarter of the parallelism at a time,
    so that it is written seldom, or all that is free where there is no more. How much it got. Kueue owns the
    field where it is used."""
    limit = turn.limits.parallelism
    more = min(spare, job.completions - job.ended - job.parallelism)
    alone = job.parallelism + spare == limit
    if more <= 0 or turn.model.spec.pods.queue_name or not (alone or more >= limit // WIDENINGS):
        return 0
    turn.act(Patch(job.name, {"spec": {"parallelism": job.parallelism + more}}))
    return more


def _struck(turn: Turn) -> list[str]:
    """Nodes to keep away from, by what they did in this round and the one before; the status lists them."""
    strikes, number = turn.strikes(), turn.draft.round
    rounds = f"rounds {number - 1} and {number}" if number > 1 else f"round {number}"
    struck = sorted(node for node, count in strikes.items() if count >= STRIKES_TO_EXCLUDE)[:MOST_EXCLUDED]
    for node in struck:
        if node not in turn.draft.status.get("excludedNodes", ()):
            text = f"{node} failed {strikes[node]} times in {rounds}"
            turn.event("NodeExcluded", text, "Warning")
    turn.draft.status.pop("excludedNodes", None)
    if struck:
        turn.draft.status["excludedNodes"] = struck
    return struck


def _pinned(turn: Turn, facts: PlanFacts) -> bool:
    """One Job a target, at most `parallelism` at once; a target that nobody reaches in time is given up."""
    if not _compiled(turn, facts, Wave(0, 0, facts.lots_per_node or facts.lots)):
        return False
    opened = unstarted = 0
    for number, node in enumerate(sorted(facts.targets)):
        job = turn.seen.jobs.get(names.job(turn.sweep, facts.plan, names.MEASURE, 0, number))
        if job is not None:
            opened += not (turn.ended(job) or unreached(turn, job))
        elif opened < turn.limits.parallelism:
            every_device = turn.model.spec.placement == "everyDevice"
            devices = turn.seen.nodes.get(node, 1) if every_device else 1
            turn.create(jobs.pinned_job(turn.child, facts, number, node, devices))
            opened += 1
        else:
            unstarted += 1
    return not opened and not unstarted


def unreached(turn: Turn, job: JobSeen) -> str:
    """Why a pinned Job's target can't be reached, once the time for it is over."""
    if job.finished or job.ready or job.ended or job.created is None:
        return ""
    left = job.created + timedelta(minutes=turn.limits.placement_minutes) - turn.now
    if left >= timedelta():
        turn.again_in(left.total_seconds() + 1)
        return ""
    why = next((pod.waiting for pod in job.pods if pod.waiting), "no pod of it started")
    return f"not reached within {turn.limits.placement_minutes:g} min: {why}"
