"""A Sweep at a glance: how far it is, what runs where, why it waits, and how it ended. Pure.

Sweep, Jobs, pods at work --`picture`--> Picture --> as_dict (-o json) | fields and frames (views for people)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from k8s import names
from k8s.observe import JobSeen, Observed, observe
from runner.axes import Strict
from runner.errors import EXIT_BAD_INPUT, EXIT_INFRASTRUCTURE, EXIT_OK, EXIT_SLOTS_FAILED
from runner.progress import duration
from runner.spec import Limits, SweepSpec

Object = Mapping[str, Any]

_STAGES = (names.PLAN, names.EXPORT, names.COMPILE, names.MEASURE, names.MERGE)
# Of a Sweep that failed, by the condition's reason; the rest is infrastructure.
_FAILED_BY = {"BadInput": EXIT_BAD_INPUT, "OverBudget": EXIT_BAD_INPUT, "CanaryFailed": EXIT_SLOTS_FAILED}
# These end a round, whose table is made.
_FAILED_WITH_TABLE = ("OverBudget", "CanaryFailed")
_MOST_NODES = 8


@dataclass(frozen=True)
class End:
    """How it ended: an exit code as of `aicsweep run`, and why in words."""

    code: int
    text: str


@dataclass(frozen=True)
class Picture:
    """What is known of one Sweep at one moment."""

    sweep: Object
    seen: Observed
    now: datetime

    @property
    def status(self) -> Mapping[str, Any]:
        return self.sweep.get("status") or {}

    @property
    def current(self) -> bool:
        return is_current(self.sweep)


def picture(sweep: Object, jobs: Iterable[Object], pods: Iterable[Object], now: datetime) -> Picture:
    return Picture(sweep, observe(jobs, pods), now)


def is_current(sweep: Object) -> bool:
    """Whether the status speaks of the spec as it is."""
    observed = (sweep.get("status") or {}).get("observedGeneration")
    return bool(observed == sweep["metadata"].get("generation"))


def is_at_work(sweep: Object) -> bool:
    """Whether Jobs of it run or may, as its status says, whichever spec that speaks of."""
    conditions = (sweep.get("status") or {}).get("conditions", ())
    return any(each["type"] == "Progressing" and each["status"] == "True" for each in conditions)


def condition(sweep: Object, name: str) -> Mapping[str, Any]:
    """The condition as it is said of the present spec; empty where nothing is."""
    if not is_current(sweep):
        return {}
    return next(
        (each for each in (sweep.get("status") or {}).get("conditions", ()) if each["type"] == name), {}
    )


def is_true(sweep: Object, name: str) -> bool:
    return condition(sweep, name).get("status") == "True"


def is_merged(sweep: Object) -> bool:
    """Whether the table is of the spec as it is: one that failed before its merge may show the table of the
    spec before."""
    failed = condition(sweep, "Failed").get("reason") if is_true(sweep, "Failed") else ""
    return is_true(sweep, "Complete") or failed in _FAILED_WITH_TABLE


def ended(sweep: Object) -> End | None:
    """How the Sweep ended, None while it may still go on by itself."""
    if condition(sweep, "Valid").get("status") == "False":
        return End(EXIT_BAD_INPUT, f"Invalid: {condition(sweep, 'Valid').get('message', '')}")
    if is_true(sweep, "Failed"):
        failed = condition(sweep, "Failed")
        code = _FAILED_BY.get(failed["reason"], EXIT_INFRASTRUCTURE)
        return End(code, f"Failed, {failed['reason']}: {failed.get('message', '')}")
    if is_true(sweep, "Complete"):
        complete = condition(sweep, "Complete")
        code = EXIT_OK if complete["reason"] == "AllMeasured" else EXIT_SLOTS_FAILED
        return End(code, f"Complete, {complete['reason']}: {complete.get('message', '')}")
    return None


def as_dict(shown: Picture) -> dict[str, Any]:
    """For programs: identity, the status as the API server has it, and the work under way."""
    meta = shown.sweep["metadata"]
    end = ended(shown.sweep)
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "generation": meta.get("generation"),
        "status": dict(shown.status),
        "statusIsCurrent": shown.current,
        "exitCode": end.code if end else None,
        "stages": _stages(shown),
    }


def heading(shown: Picture) -> str:
    meta, status = shown.sweep["metadata"], shown.status
    phase = status.get("phase", "not looked at yet")
    if "deletionTimestamp" in meta:
        phase = f"{phase}, being deleted"
    rounds = _given(shown.sweep["spec"].get("limits"), Limits, "rounds")
    round_ = f", round {status['round']} of at most {rounds}" if "round" in status else ""
    return f"{meta['namespace']}/{meta['name']}: {phase}{round_}"


def fields(shown: Picture) -> list[tuple[str, str]]:
    """What there is to say, each under its name; nothing is said of what is not known."""
    status, spec = shown.status, shown.sweep["spec"]
    cells = status.get("cells") or {}
    eta = status.get("eta", "")
    listed = [
        ("spec", ", ".join(f"{name} {_given(spec, SweepSpec, name)}" for name in ("run", "backend", "placement"))),
        ("slots", _slots(cells)),
        ("verdicts", _verdicts(cells)),
        ("ETA", f"about {eta}" if eta not in ("", "unknown") else eta),
        ("waiting", _waiting(shown)),
        ("device", _ledger(status.get("deviceSeconds") or {}, spec)),
        ("excluded", ", ".join(status.get("excludedNodes", ()))),
        ("table", status.get("tableUrl", "")),
        ("message", status.get("message", "")),
    ]  # fmt: skip
    return [(name, text) for name, text in listed if text]


def _given(part: Object | None, of: type[Strict], name: str) -> Any:
    """A field of a Sweep, under its name in YAML, or its default."""
    defaults = {field.alias: field.default for field in of.model_fields.values()}
    return (part or {}).get(name, defaults[name])


def _slots(cells: Mapping[str, int]) -> str:
    if not cells:
        return ""
    unfit = f"; {cells['unfit']} points don't fit" if cells.get("unfit") else ""
    return f"{cells.get('done', 0)} of {cells.get('total', 0)} done{unfit}"


def _verdicts(cells: Mapping[str, int]) -> str:
    return ", ".join(
        f"{cells[name]} {name}" for name in ("ok", "failed", "infeasible", "missing") if cells.get(name)
    )


def _ledger(seconds: Mapping[str, float], spec: Object) -> str:
    if not seconds.get("estimate") and not seconds.get("used"):
        return ""
    uses = ("measuring", "overhead", "failed", "repeated")
    of = ", ".join(f"{name} {duration(seconds[name])}" for name in uses if seconds.get(name))
    most = _given(spec.get("limits"), Limits, "maxDeviceHours")
    used, estimate = duration(seconds.get("used", 0)), duration(seconds.get("estimate", 0))
    return f"used {used} of about {estimate}{f' ({of})' if of else ''}; at most {most:g} h"


def _waiting(shown: Picture) -> str:
    if not shown.status:
        return "no controller has looked at it: is one running for this namespace?"
    if not shown.current:
        return "the controller has not seen the last edit yet"
    return str(shown.status.get("waiting", ""))


def _stages(shown: Picture) -> list[dict[str, Any]]:
    """Of the present round and plan, stage by stage; tasks are pods of Jobs, one an index."""
    round_ = shown.status.get("round", 1)
    found = []
    for stage in _STAGES:
        jobs = [
            job
            for job in shown.seen.jobs.values()
            if job.stage == stage and job.round == round_ and not job.deleting and _of_generation(job, shown)
        ]
        if jobs:
            pods = [pod for job in jobs for pod in job.pods]
            running = Counter(pod.node for pod in pods if pod.phase == "Running")
            waiting = Counter(pod.waiting or "starting" for pod in pods if pod.phase == "Pending")
            found.append(
                {
                    "stage": stage,
                    "tasks": sum(job.completions for job in jobs),
                    "succeeded": sum(job.succeeded for job in jobs),
                    "failed": sum(job.failed or (job.finished == "Failed") for job in jobs),
                    "running": dict(sorted(running.items())),
                    "waiting": dict(waiting.most_common()),
                }
            )
    return found


def _of_generation(job: JobSeen, shown: Picture) -> bool:
    return job.generation == str(shown.sweep["metadata"].get("generation", ""))


def stage_rows(shown: Picture) -> list[dict[str, str]]:
    """For a table."""
    rows = []
    for stage in _stages(shown):
        running, waiting = stage["running"], stage["waiting"]
        rows.append(
            {
                "stage": stage["stage"],
                "done": f"{stage['succeeded']}/{stage['tasks']}",
                "failed": str(stage["failed"] or ""),
                "running": str(sum(running.values()) or ""),
                "waiting": str(sum(waiting.values()) or ""),
                "where": _where(running) or next(iter(waiting), ""),
            }
        )
    return rows


def _where(running: Mapping[str, int]) -> str:
    shown = [f"{node} ×{count}" if count > 1 else node for node, count in running.items()]
    more = f", {len(shown) - _MOST_NODES} more" if len(shown) > _MOST_NODES else ""
    return ", ".join(shown[:_MOST_NODES]) + more


def condition_rows(shown: Picture) -> list[dict[str, str]]:
    """For a table."""
    rows = []
    for each in shown.status.get("conditions", ()):
        at = datetime.fromisoformat(each["lastTransitionTime"])
        row = {"condition": each["type"], "is": each["status"], "reason": each["reason"]}
        row["for"] = duration(max(0.0, (shown.now - at).total_seconds()))
        rows.append({**row, "message": each.get("message", "")})
    return rows


def line(shown: Picture) -> str:
    """All that changes, in one line: for --watch in a pipe."""
    stages = [s for s in _stages(shown) if s["running"] or s["waiting"]]
    work = [
        f"{s['stage']}: {sum(s['running'].values())} run, {sum(s['waiting'].values())} wait" for s in stages
    ]
    status = shown.status
    eta = f"ETA {status['eta']}" if status.get("eta") else ""
    parts = [heading(shown), _slots(status.get("cells") or {}), *work, eta, _waiting(shown)]
    return "; ".join(part for part in parts if part)
