"""Device seconds, budget, counts and ETA of a Sweep under way. Estimates until a merge has counted. Pure."""

from __future__ import annotations

import re

from k8s import draft, names
from k8s.facts import MergeFacts, PlanFacts, Wave, merge_facts
from k8s.turn import Turn

COUNTED = ("ok", "failed", "infeasible")
# Progress that is worth a write of the status: so many slots, or a twentieth of what there is to do.
STEP_SLOTS, STEPS = 250, 20
# Between steps the ETA is told anew only where it was wrong by more than that.
ETA_FACTOR = 2


def progress(turn: Turn, facts: PlanFacts) -> None:
    """Until the merge `done` is an estimate from the lots that succeeded, rounded down to steps, and a slot that its
    device or host failed is among them. Open lots may hold as many slots as the largest."""
    measuring = turn.of_plan(facts, names.MEASURE)
    done_lots = in_steps(facts, sum(job.succeeded for job in measuring))
    before = facts.slots - facts.todo
    bound = facts.todo - (facts.lots - done_lots) * (facts.most_slots_a_lot or facts.todo)
    turn.draft.count(total=facts.slots, unfit=facts.unfit)
    turn.draft.at_least(done=before + max(0, bound))
    used_s = _used_s(turn, facts)
    moved = round(used_s) != turn.draft.status.get("deviceSeconds", {}).get("used")
    turn.draft.seconds(estimate=used_s + (facts.lots - done_lots) * facts.lot_s, used=used_s)
    left_s = (facts.lots - sum(job.ended for job in measuring)) * facts.lot_s
    active = sum(job.ready for job in measuring)
    turn.draft.text("eta", _eta("" if moved else turn.draft.status.get("eta", ""), left_s, active))
    turn.draft.text("waiting", turn.seen.waiting(turn.now))


def merged(turn: Turn, found: MergeFacts) -> None:
    """What the merge counted, exactly."""
    counts = {name: found.counts.get(name, 0) for name in (*COUNTED, "unfit", "missing")}
    turn.draft.count(done=sum(counts[name] for name in COUNTED), **counts)
    used_s = sum(found.device_s.values())
    turn.draft.seconds(used=used_s, estimate=used_s, **found.device_s)


def within_budget(turn: Turn, facts: PlanFacts, wave: Wave) -> bool:
    """Whether the wave may begin; if not, the round ends after the open waves, and the status says why."""
    used_s = _used_s(turn, facts, running=True)
    needed_s = wave.count * facts.lot_s
    if used_s + needed_s <= turn.limits.max_device_hours * 3600:
        turn.draft.condition(draft.OVER_BUDGET, False, "WithinBudget")
        return True
    text = (
        f"{used_s / 3600:.1f} device-hours are used or under way, the next wave needs about {needed_s / 3600:.1f}"
        f" more; limits.maxDeviceHours is {turn.limits.max_device_hours:g}"
    )
    if not turn.draft.is_true(draft.OVER_BUDGET):
        turn.event(draft.OVER_BUDGET, text, "Warning")
    turn.draft.condition(draft.OVER_BUDGET, True, draft.OVER_BUDGET, text)
    turn.begin_no_more(draft.OVER_BUDGET, text)
    return False


def _used_s(turn: Turn, facts: PlanFacts, *, running: bool = False) -> float:
    """Device seconds as the last merge counted them, and by estimate the lots that ended since, or, with
    `running`, all lots of Jobs that were begun."""
    merges = [job for job in turn.seen.jobs.values() if job.stage == names.MERGE and job.finished]
    known = [sum(found.device_s.values()) for job in merges if (found := merge_facts(job.message()))]
    lots = 0
    if not any(job.plan == facts.plan[: names.PLAN_LABEL_DIGITS] for job in merges):
        for job in turn.of_plan(facts, names.MEASURE):
            lots += job.completions if running and not job.finished else job.ended
    return max(known, default=0.0) + (lots if running else in_steps(facts, lots)) * facts.lot_s


def in_steps(facts: PlanFacts, lots: int) -> int:
    """So many `lots` ended, as the status tells it: the last whole step, and all of them at the end. Each lot
    told by itself is 0.04 writes a cell on a fleet where they end one after the other."""
    step = max(1, min(facts.lots // STEPS, STEP_SLOTS * facts.lots // max(1, facts.todo)))
    return lots if lots >= facts.lots else lots - lots % step


def _eta(before: str, left_s: float, active: int) -> str:
    """What was told `before` stays for as long as it is about right: pods come and go with every lot."""
    if not left_s:
        return ""
    if not active:
        return "unknown"
    now_s, was_s = left_s / active, _coarse_s(before)
    return before if was_s / ETA_FACTOR < now_s < was_s * ETA_FACTOR else coarse(now_s)


def coarse(seconds: float) -> str:
    """A duration in one or two figures, so that it seldom changes: `40s`, `12m`, `3h20m`."""
    if seconds < 55:
        return f"{max(10, round(seconds / 10) * 10)}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(round(minutes / 10) * 10, 60)
    return f"{hours}h{minutes}m" if minutes and hours < 10 else f"{hours}h"


def _coarse_s(text: str) -> float:
    """Seconds of what `coarse` wrote; 0 for any other text."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    return hours * 3600 + minutes * 60 + seconds
