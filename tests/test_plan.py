import itertools
import math

import pyarrow.compute as pc
import pytest

from runner import backends, cells, lut, plan
from runner.errors import BadInput
from runner.plan import Past, Plan, make_plan, read_plan, still_wanted
from tests.samples import sweep

FAKE = backends.load("fake")
CARD = cells.Target("fake", FAKE.PARAMETERS, FAKE.PRECISIONS, 14, "NSPs")
GRID = {"cores": [1, 2, 4, 7], "instances": [1, 2], "batchSize": [1, 2, 4]}


def planned(past=None, number=1, **spec) -> Plan:
    wanted = sweep(**{"grid": GRID, **spec})
    models = cells.models_of(wanted.spec)
    return make_plan(wanted, models, lut.shipped(), CARD, FAKE, past=past, round_number=number)


def test_every_wanted_slot_is_in_exactly_one_lot():
    made = planned(objectives=["best-throughput", "best-latency"])
    tasks = [task.slot for number in range(made.lots) for task in made.lot(number)]
    assert len(tasks) == len(set(tasks))
    fits = made.table.filter(pc.equal(made.table["unfit"].cast("string"), ""))
    assert set(tasks) == set(fits["slot"].to_pylist())
    assert [t.slot for t in made.tasks()] == tasks


def test_the_same_arguments_give_the_same_bytes_and_bytes_give_the_plan():
    made = planned()
    assert planned().digest == made.digest
    assert planned(number=2).digest != made.digest
    again = read_plan(made.data)
    assert again.digest == made.digest
    assert again.lot(1) == made.lot(1)
    with pytest.raises(ValueError, match="schema"):
        read_plan(plan._to_bytes(made.table, {"schema": 99}))


def test_a_lot_keeps_to_its_minutes_and_rivals_stay_together():
    made = planned(limits={"lotMinutes": 30}, measure={"seconds": 10, "repeats": 5})
    limit = 30 * 60
    seconds = [sum(t.estimate_s for t in made.lot(n)) for n in range(made.lots)]
    assert max(seconds) <= limit
    blocks = [t.model for t in made.tasks()]
    changes = sum(a != b for a, b in itertools.pairwise(blocks))
    assert changes == 1
    assert made.lots == 2 * math.ceil(sum(seconds) / 2 / limit)


def test_what_is_done_is_not_planned_again():
    slots = [t.slot for t in planned().tasks()]
    verdicts = dict(zip(slots, ["ok", "infeasible", "failed", "failed"], strict=False))
    past = {slot: Past(v, 3 if n == 3 else 1) for n, (slot, v) in enumerate(verdicts.items())}
    left = {t.slot for t in planned(past=past).tasks()}
    assert set(slots) - left == {slots[0], slots[1], slots[3]}
    assert planned(past=past).table.num_rows == planned().table.num_rows


@pytest.mark.parametrize(
    ("past", "wanted"),
    [
        (None, True),
        (Past("ok", 1), False),
        (Past("infeasible", 1), False),
        (Past("failed", 2), True),
        (Past("failed", 3), False),
    ],
)
def test_still_wanted(past, wanted):
    assert still_wanted(past, rounds=3) is wanted


def test_nothing_that_fits_is_bad_input():
    with pytest.raises(BadInput, match="none of 2 points fits"):
        planned(grid={"cores": [14], "instances": [2]})
    with pytest.raises(BadInput, match="every point away"):
        planned(exclude=[{"objectives": ["best-throughput"]}])


def test_an_added_value_adds_slots_and_changes_none():
    before = {t.slot for t in planned().tasks()}
    after = {t.slot for t in planned(grid={**GRID, "cores": [1, 2, 3, 4, 7]}).tasks()}
    assert before < after
