"""What to measure in which turn where something may end the process: first what nobody died with. Pure.

`inflight` knows what was in flight when somebody died: `seen`, by item those that ended with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.plan import Task

Lots = Mapping[int, Sequence[Task]]
Seen = Mapping[str, frozenset[str]]


def in_groups(tasks: Sequence[Task], seen: Seen) -> list[list[Task]]:
    """The tasks in the order of groups to measure. First those of which nothing was in flight when an attempt ended;
    then those of which the export or the binary was, which are `made_alone` before; then each that was itself, by
    itself, since what dies beside it on another device is not to blame."""
    alone = sorted((task for task in tasks if task.item in seen), key=lambda task: len(seen[task.item]))
    others = [task for task in tasks if task.item not in seen]
    suspects = made_alone(others, seen)
    clean = [task for task in others if not {task.export, task.binary} & suspects]
    after = [task for task in others if {task.export, task.binary} & suspects]
    return [group for group in (clean, after, *([task] for task in alone)) if group]


def made_alone(tasks: Sequence[Task], seen: Seen) -> frozenset[str]:
    """Ids of the exports and binaries that were in flight when an attempt ended: made with nothing beside."""
    if not seen:
        return frozenset()
    exports = {task.export for task in tasks if task.export_item in seen}
    return frozenset(exports | {task.binary for task in tasks if task.binary_item in seen})


def in_turn(lots: Lots, seen: Seen) -> list[Lots]:
    """The same of lots: groups of lots, all of them in one where there are no suspects."""
    if not seen:
        return [lots]
    number_of = {task.slot: number for number, tasks in lots.items() for task in tasks}
    turns: list[dict[int, list[Task]]] = []
    for group in in_groups([task for tasks in lots.values() for task in tasks], seen):
        turn: dict[int, list[Task]] = {}
        for task in group:
            turn.setdefault(number_of[task.slot], []).append(task)
        turns.append(turn)
    return [*turns]
