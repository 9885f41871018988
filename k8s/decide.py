"""What to do next for one Sweep: its object and what was observed in, actions and a status out. Pure.

    plan Job -> export Job -> waves of (compile Job, measure Job) -> merge Job -> next round, or the end

Level-based: every pass starts from nothing but the Sweep and its Jobs. Children's names are functions
of content, so that a pass that is repeated, or one that sees old news, creates nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from k8s import account, draft, jobs, measuring, names
from k8s.actions import Decision, Delete, Event
from k8s.child import Defaults
from k8s.draft import Draft
from k8s.facts import MergeFacts, PlanFacts, merge_facts, plan_facts
from k8s.observe import FAILED, JobSeen, Observed
from k8s.pod_template import GRACE_S
from k8s.turn import RECHECK_S, Turn
from runner.errors import BadInput, Problem, counted
from runner.spec import Sweep
from runner.sweepfile import sweep_from_object

RECHECK_LEAST_S, RECHECK_MOST_S = 5.0, 60.0
# A Job whose pods are not gone by then is not waited for.
GONE_AFTER = timedelta(seconds=GRACE_S + 60)


def decide(sweep: Mapping[str, Any], seen: Observed, now: datetime, defaults: Defaults) -> Decision:
    """One pass over one Sweep."""
    if "deletionTimestamp" in sweep["metadata"]:
        # Its children go with it, by their owner references.
        return Decision(dict(sweep.get("status") or {}))
    drafted = Draft(sweep, now)
    try:
        model = defaults.completed(sweep_from_object(sweep))
        _require_store(model, defaults)
    except BadInput as error:
        return _refused(drafted, seen, error)
    turn = Turn(sweep, model, seen, now, defaults, drafted)
    drafted.condition(draft.VALID, True, "Accepted")
    if any(drafted.is_true(name) for name in draft.TERMINAL):
        _clean_up(turn)
    elif model.spec.suspend:
        _suspend(turn)
    else:
        _go_on(turn)
        _look_again(turn)
    return turn.decision


def _go_on(turn: Turn) -> None:
    """The flow of a round, as far as it can go now."""
    if turn.draft.fresh:
        turn.draft.forget_counts()
    if turn.draft.is_true(draft.SUSPENDED):
        turn.draft.condition(draft.SUSPENDED, False, "Resumed")
        turn.event("Resumed", "planning what is still wanted")
    if _ending(turn, [job for job in _all(turn) if job.generation != str(turn.draft.generation)]):
        return
    facts = _plan(turn)
    if facts is None or _ending(turn, _of_other_plans(turn, facts)):
        return
    account.progress(turn, facts)
    to_measure = facts.lots and measuring.may_begin(turn, facts)
    if to_measure and not (_export(turn, facts) and measuring.done(turn, facts)):
        return
    found = _merge(turn, facts)
    if found is not None:
        _end_round(turn, facts, found)


# -- the stages of a round; each answers when the next may begin


def _plan(turn: Turn) -> PlanFacts | None:
    turn.phase("Planning", f"round {turn.draft.round}")
    name = names.plan_job(turn.sweep, turn.draft.round)
    pinned = turn.model.spec.placement != "any"
    if pinned and name not in turn.seen.jobs and not turn.seen.nodes:
        turn.draft.text("waiting", f"no ready node offers {turn.model.spec.pods.device_resource}")
        turn.again_in(RECHECK_S)
        return None
    targets = [{"node": node, "devices": count} for node, count in turn.seen.nodes.items()] if pinned else []
    job = turn.job(name, jobs.plan_job(turn.child, targets))
    if job is None or not job.finished:
        turn.draft.text("waiting", turn.seen.waiting(turn.now))
        return None
    if job.finished == FAILED:
        turn.fail("PlanFailed", job)
        return None
    facts = plan_facts(job.message())
    if facts is None:
        turn.run_again(job)
        return None
    if facts.again is not None and turn.draft.status.get("planDigest") != facts.plan:
        what = counted(facts.again, "slot") if facts.again else "nothing"
        turn.event("Again", f"{what} to be measured again, as spec.again asks")
    turn.draft.text("planDigest", facts.plan)
    return facts.on(job.targets) if pinned and facts.lots else facts


def _export(turn: Turn, facts: PlanFacts) -> bool:
    if not facts.exports or turn.model.spec.execution == "combined":
        return True
    turn.phase("Exporting", counted(facts.exports, "model"))
    job = turn.job(names.job(turn.sweep, facts.plan, names.EXPORT), jobs.export_job(turn.child, facts))
    return job is not None and turn.ended(job)


def _merge(turn: Turn, facts: PlanFacts) -> MergeFacts | None:
    turn.phase("Merging", f"round {turn.draft.round}")
    unreached = {}
    for number, node in enumerate(sorted(facts.targets)):
        pinned = turn.seen.jobs.get(names.job(turn.sweep, facts.plan, names.MEASURE, 0, number))
        if pinned and (reason := measuring.unreached(turn, pinned)):
            unreached[node] = reason
    name = names.job(turn.sweep, facts.plan, names.MERGE)
    job = turn.job(name, jobs.merge_job(turn.child, facts, unreached))
    if job is None or not job.finished:
        return None
    if job.finished == FAILED:
        turn.fail("MergeFailed", job)
        return None
    found = merge_facts(job.message())
    if found is None:
        turn.run_again(job)
    return found


def _end_round(turn: Turn, facts: PlanFacts, found: MergeFacts) -> None:
    account.merged(turn, found)
    child = turn.child
    turn.draft.text(
        "tableUrl", f"{child.store}/{child.sweep.store_prefix(child.defaults.cluster)}/{found.table}"
    )
    more = bool(found.wanted and facts.lots and turn.draft.round < turn.limits.rounds)
    if turn.stop and (turn.stop_reason != measuring.CANARY_FAILED or _proven(found, more)):
        turn.end(draft.FAILED, turn.stop_reason, turn.stop)
    elif more:
        turn.draft.status["round"] = turn.draft.round + 1
        turn.event("Round", f"still wanted: {counted(found.wanted, 'slot')}; round {turn.draft.round} begins")
        turn.again_in(0)
    else:
        bad = sum(found.counts.get(name, 0) for name in ("failed", "infeasible", "missing"))
        text = ", ".join(f"{count} {name}" for name, count in found.counts.items() if count)
        if found.wanted and not bad:
            bad, text = found.wanted, f"{text}; {found.wanted} of them still to be measured again"
        turn.end(draft.COMPLETE, "SomeFailed" if bad else "AllMeasured", text)


def _proven(found: MergeFacts, more: bool) -> bool:
    """Whether the table bears out that nothing works. A point that kills its pods fails whole lots whose other slots
    are well; and where nothing has a verdict, the store or the hosts were away: the next round tries again."""
    counts = found.counts
    return not counts.get("ok") and bool(not more or counts.get("failed") or counts.get("infeasible"))


# -- what happens to a whole Sweep


def _clean_up(turn: Turn) -> None:
    """Ended for this generation, and stays so. What still runs goes now, the rest when its time is over."""
    ended = next(at for name in draft.TERMINAL if turn.draft.is_true(name) and (at := turn.draft.since(name)))
    left_s = (ended - turn.now).total_seconds() + turn.limits.ttl_seconds_after_finished
    going = [job for job in _all(turn) if not job.deleting and (left_s <= 0 or not job.finished)]
    turn.act(*(Delete(job.name, job.uid) for job in going))
    if left_s > 0 and turn.seen.jobs:
        turn.again_in(left_s)


def _suspend(turn: Turn) -> None:
    """Running work ends and its results are kept; the plan goes too, so that resuming plans anew."""
    plan = names.plan_job(turn.sweep, turn.draft.round)
    going = [job for job in _all(turn) if not job.deleting and (not job.finished or job.name == plan)]
    turn.act(*(Delete(job.name, job.uid, foreground=True) for job in going))
    if not turn.draft.is_true(draft.SUSPENDED):
        turn.event("Suspended", "running work ends, its results are kept")
    turn.draft.condition(draft.SUSPENDED, True, "Suspended", "spec.suspend is true")
    turn.draft.condition(draft.PROGRESSING, False, "Suspended")
    turn.draft.phase("Suspended", "spec.suspend is true; set it to false to go on")
    turn.draft.text("eta", "")
    turn.draft.text("waiting", "")


def _require_store(model: Sweep, defaults: Defaults) -> None:
    if not (model.spec.results.url or defaults.store):
        remedy = "a store such as s3://bucket/prefix; this controller has no default"
        raise BadInput([Problem("spec.results.url", "is missing", remedy)])


def _refused(drafted: Draft, seen: Observed, error: BadInput) -> Decision:
    text = "; ".join(" ".join(str(problem).split()) for problem in error.problems)
    told = drafted.told(draft.VALID, False)
    drafted.condition(draft.VALID, False, "Invalid", text)
    drafted.condition(draft.PROGRESSING, False, "Invalid", "the spec can't be used")
    drafted.phase("Invalid", text)
    going = [job for job in seen.jobs.values() if not job.finished and not job.deleting]
    events = [] if told else [Event("Warning", "Invalid", text[:1000])]
    return Decision(drafted.status, [Delete(job.name, job.uid, foreground=True) for job in going], events)


# -- small steps


def _look_again(turn: Turn) -> None:
    """A Job does not change when the reason of its pods' waiting does (no room, no image, no Secret), or while
    none can be made: look again, more seldom the longer it takes."""
    ages = [
        (turn.now - job.created).total_seconds()
        for job in _all(turn)
        if job.created and (job.bare or job.active > job.ready) and not job.finished and not job.deleting
    ]
    if ages:
        turn.again_in(min(RECHECK_MOST_S, max(RECHECK_LEAST_S, min(ages) / 4)))


def _all(turn: Turn) -> Sequence[JobSeen]:
    return list(turn.seen.jobs.values())


def _of_other_plans(turn: Turn, facts: PlanFacts) -> list[JobSeen]:
    """The round was planned anew after a suspension or a deletion; or an earlier round left a lost pod."""
    label = facts.plan[: names.PLAN_LABEL_DIGITS]
    return [job for job in _all(turn) if job.plan and job.plan != label]


def _ending(turn: Turn, old: Sequence[JobSeen]) -> bool:
    """End old work first, so that a new plan sees what it still writes; whether it is waited for."""
    going = [job for job in old if not job.finished]
    turn.act(*(Delete(job.name, job.uid, foreground=True) for job in going if not job.deleting))
    awaited = [job for job in going if not job.gone_by(turn.now - GONE_AFTER) and not turn.lost(job)]
    if awaited:
        turn.phase("Planning", f"{len(awaited)} Jobs of an earlier plan are ending")
        turn.again_in(RECHECK_S)
    return bool(awaited)
