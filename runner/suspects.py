"""What to measure in which turn where something may end the process: first what nobody died with, then each alone.

Pure. `inflight` knows what was in flight when somebody died.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.inflight import Attempt
from runner.plan import Task

Lots = Mapping[int, Sequence[Task]]


def item_of(task: Task) -> str:
    """What a task is called while it is in flight: what is asked for anew is not what others died with."""
    return f"{task.slot}.{task.epoch}" if task.epoch else task.slot


def in_groups(tasks: Sequence[Task], attempt: Attempt) -> list[list[Task]]:
    """The tasks in the order of groups to measure: those first of which nothing was in flight when an attempt
    ended, then each other by itself, since what dies beside it on another device is not to blame."""
    suspects = [task for task in tasks if {item_of(task), task.binary, task.export} & attempt.seen.keys()]
    slots = {task.slot for task in suspects}
    clean = [task for task in tasks if task.slot not in slots]
    alone = [[task] for task in attempt.in_order(suspects, item_of)]
    return [clean, *alone] if clean else alone


def in_turn(lots: Lots, attempt: Attempt) -> list[Lots]:
    """The same of lots: groups of lots, all of them in one where there are no suspects."""
    if not attempt.seen:
        return [lots]
    number_of = {task.slot: number for number, tasks in lots.items() for task in tasks}
    turns: list[dict[int, list[Task]]] = []
    for group in in_groups([task for tasks in lots.values() for task in tasks], attempt):
        turn: dict[int, list[Task]] = {}
        for task in group:
            turn.setdefault(number_of[task.slot], []).append(task)
        turns.append(turn)
    return [*turns]
