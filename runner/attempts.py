"""The engine's functions with an eye on what died before: what is tried again, in which order, and what not.

`inflight` keeps the markers; here they decide. Undisturbed, everything is done in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner import engine, inflight, merge
from runner.artifacts import Artifact
from runner.build import Answers, Made
from runner.errors import PointFailed
from runner.inflight import Attempt
from runner.keys import ExportRequest
from runner.measure import Recorder, unmeasured
from runner.plan import Plan, Task
from runner.result import MISSING
from runner.store import Store
from runner.suspects import item_of
from runner.workplace import Workplace


def exported(place: Workplace, requests: Sequence[ExportRequest], attempt: Attempt) -> Answers:
    """Every graph that is asked for, or the verdict on it."""
    if not attempt.careful:
        return engine.export(place, requests)
    answers: dict[str, Artifact | PointFailed] = {}
    for request in attempt.in_order(requests, lambda request: request.id):
        if (verdict := attempt.verdict(request.id, "export")) is not None:
            answers[request.id] = verdict
        else:
            with attempt.flying(request.id):
                answers.update(engine.export(place, [request]))
    return answers


def compiled(
    place: Workplace,
    tasks: Sequence[Task],
    exports: Answers,
    attempt: Attempt,
    keep: Callable[[Answers], None],
) -> Made:
    """Every binary the tasks need, or the verdict on it; `keep` gets what is made so far before something is
    tried that may end this process."""
    if not attempt.careful or place.backend.COMPILES_ON == "target":
        return engine.compile_(place, tasks, exports)
    answers: dict[str, Artifact | PointFailed] = {}
    by_binary = {task.binary: task for task in tasks}
    for binary in attempt.in_order(list(by_binary), str):
        if (verdict := attempt.verdict(binary, "compile")) is not None:
            answers[binary] = verdict
            continue
        if binary in attempt.seen:
            keep(answers)
        with attempt.flying(binary):
            answers.update(engine.compile_(place, [by_binary[binary]], exports, at_once=1).binaries)
    return Made(exports, answers)


def known(home: Store, folder: str) -> dict[str, str]:
    """Slots that need not be measured again in this plan, with their status; `missing` ones do."""
    past = merge.past_of(engine.read_results(home, folder))
    return {slot: found.verdict for slot, found in past.items() if found.verdict != MISSING}


def record_deadly(place: Workplace, current: Plan) -> None:
    """Give slots that pods died with, and that have no result, their verdict: a row for each death."""
    deaths = inflight.deadly(place.home, current.digest)
    if not deaths:
        return
    done = known(place.home, f"results/{current.digest}")
    for number, tasks in current.by_lot().items():
        with Recorder(place.home, current, number, place.writer, {}, place.node) as recorder:
            for task in tasks:
                for stage, item in (
                    ("export", task.export),
                    ("compile", task.binary),
                    ("run", item_of(task)),
                ):
                    if task.slot not in done and item in deaths:
                        for _ in range(deaths[item]):
                            recorder.add(unmeasured(task, inflight.killed(stage, deaths[item])))
                        break
