"""Which slots a lot holds, of plans as they are made."""

import itertools
import math

from runner.plan import Past, Plan
from tests.test_plan import TWO_NODES, planned


def test_a_lot_keeps_to_its_minutes_and_rivals_stay_together():
    made = planned(limits={"lotMinutes": 30}, measure={"seconds": 10, "repeats": 5})
    limit = 30 * 60
    seconds = [sum(t.estimate_s for t in made.lot(n)) for n in range(made.lots)]
    assert max(seconds) <= limit
    blocks = [t.model for t in made.tasks()]
    changes = sum(a != b for a, b in itertools.pairwise(blocks))
    assert changes == 1
    assert made.lots == 2 * math.ceil(sum(seconds) / 2 / limit)


def models_in(made: Plan, lot: int) -> set[str]:
    return {task.model for task in made.lot(lot)}


def test_the_first_lots_are_a_canary_of_every_model():
    made = planned(models=["resnets"], limits={"lotMinutes": 2})
    models = {task.model for task in made.tasks()}
    assert made.lots > made.canary == len(models) > 1
    assert set().union(*(models_in(made, lot) for lot in range(made.canary))) == models
    # A sweep of one lot is its own canary; where something worked before there is none.
    assert planned(limits={"lotMinutes": 240}).canary == 1
    assert planned({made.tasks()[0].slot: Past("ok", 1)}).canary == 0


def test_a_lot_belongs_to_one_node_and_holds_the_same_points_for_all_its_devices():
    made = planned(targets=TWO_NODES, limits={"lotMinutes": 5})
    assert made.lots == 2 * made.lots_per_node
    assert made.lots_per_node == planned(limits={"lotMinutes": 5}).lots
    for number in range(made.lots_per_node):
        here, there = made.lot(number), made.lot(number + made.lots_per_node)
        assert {t.target for t in here} == {"a/0", "a/1"}
        assert {t.target for t in there} == {"b/0", "b/1"}
        assert [t.cell for t in here] == [t.cell for t in there]
        assert made.node(number) == "a"
        assert made.node(number + made.lots_per_node) == "b"
    slots = [t.slot for t in made.tasks()]
    assert len(slots) == len(set(slots)) == 4 * len(planned().tasks())


def test_a_node_with_less_to_do_has_empty_lots_at_its_end():
    targets = {"a": "a", "b": "b"}
    first = planned(targets=targets, limits={"lotMinutes": 5})
    past = {t.slot: Past("ok", 1) for t in first.tasks() if t.target == "b"}
    second = planned(past, targets=targets, limits={"lotMinutes": 5})
    sizes = [len(second.lot(number)) for number in range(second.lots)]
    assert all(sizes[: second.lots_per_node])
    assert not any(sizes[second.lots_per_node :])
