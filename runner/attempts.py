"""What earlier attempts at a plan leave: results that need no second measurement, verdicts on what killed pods."""

from __future__ import annotations

from runner import engine, inflight, merge
from runner.measure import Recorder, unmeasured
from runner.plan import Plan
from runner.result import MISSING
from runner.store import Store
from runner.workplace import Workplace


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
                    ("export", task.export_item),
                    ("compile", task.binary_item),
                    ("run", task.item),
                ):
                    if task.slot not in done and item in deaths:
                        for _ in range(deaths[item]):
                            recorder.add(unmeasured(task, inflight.killed(stage, deaths[item])))
                        break
