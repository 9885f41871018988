import dataclasses

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import backends, cells, lut
from runner.errors import BadInput
from runner.plan import ANYWHERE, Past, Plan, Task, make_plan, read_plan, still_wanted
from tests import reference
from tests.samples import sweep

FAKE = backends.load("fake")
CARD = cells.Target("fake", FAKE.PARAMETERS, FAKE.PRECISIONS, 14, "NSPs")
GRID = {"cores": [1, 2, 4, 7], "instances": [1, 2], "batchSize": [1, 2, 4]}


def planned(past=None, number=1, targets=ANYWHERE, **spec) -> Plan:
    wanted = sweep(**{"grid": GRID, **spec})
    models = cells.models_of(wanted.spec)
    return make_plan(
        wanted, models, lut.shipped(), CARD, FAKE, past=past, round_number=number, targets=targets
    )


def test_every_wanted_slot_is_in_exactly_one_lot():
    made = planned(objectives=["best-throughput", "best-latency"])
    tasks = [task.slot for number in range(made.lots) for task in made.lot(number)]
    assert len(tasks) == len(set(tasks))
    fits = made.table.filter(pc.equal(made.table["unfit"].cast("string"), ""))
    assert set(tasks) == set(fits["slot"].to_pylist())
    assert [t.slot for t in made.tasks()] == tasks


@settings(max_examples=60, deadline=None)
@given(
    reference.SPECS,
    st.sampled_from(["fake", "onnxruntime"]),
    st.sampled_from([ANYWHERE, {"node-1": "node-1", "node-2": "node-2"}]),
    st.sampled_from([1, 10, 240]),
    st.data(),
)
def test_rows_are_a_loops_and_lots_hold_each_wanted_slot_once(spec, name, targets, minutes, data):
    backend = backends.load(name)
    device = cells.Target(name, backend.PARAMETERS, backend.PRECISIONS, 14, "cores")
    wanted = sweep(**spec, limits={"lotMinutes": minutes})
    models = cells.models_of(wanted.spec)
    rows = reference.rows(wanted, models, lut.shipped(), device, backend, list(targets))
    slots = sorted({row["slot"] for row in rows if not row["unfit"]})
    if not slots:
        return
    tried = data.draw(st.lists(st.sampled_from(slots), unique=True))
    verdicts = st.builds(Past, st.sampled_from(["ok", "failed", "infeasible"]), st.integers(1, 4))
    past = {slot: data.draw(verdicts) for slot in tried}

    made = make_plan(wanted, models, lut.shipped(), device, backend, past=past, targets=targets)
    found = made.table.sort_by("row").drop_columns(["lot", "position"])
    assert found.to_pylist() == [{name: row[name] for name in found.column_names} for row in rows]
    assert made.header["wanted"] == len([row for row in rows if not row["unfit"]])
    assert made.header["slots"] == made.header["cells"] * len(targets) == len(slots)

    by_lot = [made.lot(number) for number in range(made.lots)]
    tasks = [task for lot in by_lot for task in lot]
    left = [slot for slot in slots if still_wanted(past.get(slot), rounds=3)]
    assert sorted(task.slot for task in tasks) == left
    assert tasks == made.tasks()
    assert made.device_s == pytest.approx(sum(task.estimate_s for task in tasks))
    assert all(by_lot) or len(targets) > 1
    for lot in by_lot:
        assert len(lot) == 1 or sum(task.estimate_s for task in lot) <= minutes * 60 + 1e-6
    # A network's rivals for an objective that fit one lot are in one.
    objective = {row["slot"]: row["objective"] for row in reversed(rows)}
    blocks: dict[tuple[str, str, str], list[Task]] = {}
    for task in tasks:
        blocks.setdefault((task.cell.source, objective[task.slot], task.target), []).append(task)
    lot_of = {task.slot: number for number, lot in enumerate(by_lot) for task in lot}
    for rivals in blocks.values():
        if sum(task.estimate_s for task in rivals) <= minutes * 60:
            assert len({lot_of[task.slot] for task in rivals}) == 1


def test_the_same_arguments_give_the_same_bytes():
    assert planned().digest == planned().digest != planned(number=2).digest


def test_two_names_of_one_file_are_measured_once_and_listed_twice():
    wanted = sweep(models=["onnx:a.onnx", "onnx:b.onnx"], grid=GRID)
    models = [
        dataclasses.replace(m, source="onnx:0123", location=m.name) for m in cells.models_of(wanted.spec)
    ]
    made = make_plan(wanted, models, lut.shipped(), CARD, FAKE)
    slots = [task.slot for task in made.tasks()]
    assert len(slots) == len(set(slots)) == made.header["slots"]
    assert made.header["wanted"] == 2 * len(slots)
    assert {task.location for task in made.tasks()} == {"onnx:a.onnx"}


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
        (Past("failed", 1, "killed"), True),
        (Past("failed", 2, "killed"), False),
        (Past("missing", 9, "device-hot"), True),
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


TWO_NODES = {"a/0": "a", "a/1": "a", "b/0": "b", "b/1": "b"}


@pytest.mark.parametrize("targets", [ANYWHERE, TWO_NODES])
def test_every_binary_is_compiled_once_and_no_later_than_it_is_measured(targets):
    made = planned(targets=targets, limits={"lotMinutes": 3})
    compiled = [t.binary for number in range(made.lots_per_node) for t in made.to_compile(number)]
    assert len(compiled) == len(set(compiled))
    assert set(compiled) == {t.binary for t in made.tasks()}
    for lot in range(made.lots):
        for task in made.lot(lot):
            assert made.compiled_with[task.binary] <= lot % made.lots_per_node


def test_exports_are_numbered_in_the_order_of_work():
    made = planned(models=["resnets"], limits={"lotMinutes": 2})
    numbered = [request.id for request in made.exports().values()]
    assert numbered == list(dict.fromkeys(task.export for task in made.tasks()))
    assert [r.id for r in read_plan(made.data).exports().values()] == numbered


def test_a_slot_that_is_asked_for_again_is_wanted_in_its_epoch_and_its_binary_anew():
    grid = {"cores": [1, 2], "instances": [1, 2]}
    slots = {
        (task.cell.cores, task.cell.instances): task
        for task in planned(models=["resnet50"], grid=grid).tasks()
    }
    past = {task.slot: Past("ok", 1) for task in slots.values()}
    past[slots[2, 1].slot] = Past("missing", 0, epoch=3)
    past[slots[1, 1].slot] = Past("ok", 1, epoch=2)
    del past[slots[2, 2].slot]
    made = planned(past, models=["resnet50"], grid=grid)
    again = {(task.cell.cores, task.cell.instances): (task.epoch, task.anew) for task in made.tasks()}
    # The one beside it shares the binary.
    assert again == {(2, 1): (3, True), (2, 2): (0, True)}
    assert made.epochs == {slots[2, 1].slot: 3, slots[1, 1].slot: 2}
    untouched = planned(models=["resnet50"], grid=grid)
    assert untouched.epochs == {}
    assert {(task.epoch, task.anew) for task in untouched.tasks()} == {(0, False)}


def test_requests_are_rows_of_a_plan_and_nothing_of_its_sweep():
    """An aicsweep that knows no requests goes on with the plan."""
    request = [{"id": "a", "where": "True"}]
    assert planned(again=request).data == planned().data
    assert planned(again=request).sweep.spec.again == ()
