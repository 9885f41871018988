import pyarrow as pa
import pyarrow.compute as pc
import pytest

from runner.plan_schema import PLAN_SCHEMA, ROW_GROUP
from runner.plan_writer import PlanWriter
from runner.planfile import Plan, can_run, in_a_lot, read_plan
from tests.test_plan import planned

HEADER = {
    "round": 1, "lots": 0, "lots_per_node": 0, "canary": [], "targets": {"any": ""}, "device_s": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def large() -> Plan:
    """Several row groups, and one unfit row in three."""
    grid = {
        "cores": [1, 7, 14],
        "instances": [1, 2],
        "batchSize": list(range(1, 65)),
        "setSize": list(range(1, 65)),
    }
    made = planned(grid=grid, limits={"maxCells": 100_000, "lotMinutes": 240})
    assert made.table.num_rows > 3 * ROW_GROUP
    return made


def test_bytes_give_the_plan_again(large):
    again = read_plan(large.data)
    assert (again.digest, again.header) == (large.digest, large.header)
    assert again.table.equals(large.table)
    assert again.table.schema.equals(PLAN_SCHEMA)


def test_any_lot_can_be_read_by_itself_and_all_of_them_are_the_tasks(large):
    rows = large.columns("lot", "position", "slot", where=in_a_lot)
    rows = rows.sort_by([("lot", "ascending"), ("position", "ascending")])
    packed: dict[int, list[str]] = {}
    for row in rows.to_pylist():
        packed.setdefault(row["lot"], []).append(row["slot"])
    # The first lots of the two networks come first, the others as they were packed.
    canary = large.header["canary"]
    assert len(canary) == large.canary == 2
    order = [*canary, *(number for number in packed if number not in canary)]
    slots = [packed[number] for number in order]
    assert len(slots) == large.lots
    for number in (large.lots - 1, 0, large.lots // 2):
        assert [task.slot for task in read_plan(large.data).lot(number)] == slots[number]
    assert [[task.slot for task in large.lot(number)] for number in range(large.lots)] == slots
    assert [task.slot for task in large.tasks()] == [slot for lot in slots for slot in lot]
    assert large.sizes() == {number: len(lot) for number, lot in enumerate(slots)}
    assert large.lot(large.lots) == []


def test_columns_may_be_filtered_as_they_are_read(large):
    unfit = large.columns("unfit", "cores", where=lambda rows: pc.invert(can_run(rows)))
    every = large.table
    assert unfit.num_rows == every.filter(pc.not_equal(every["unfit"].cast(pa.string()), "")).num_rows > 0
    assert unfit.column_names == ["unfit", "cores"]


def test_another_schema_or_no_plan_at_all_is_refused():
    made = PlanWriter()
    made.add(planned().table)
    with pytest.raises(ValueError, match="plan of schema 99"):
        read_plan(made.finish({**HEADER, "schema": 99}).data)
    with pytest.raises(ValueError, match="Parquet"):
        read_plan(b"no plan")


def test_a_plan_without_work_has_no_lots():
    done = {task.slot: task for task in planned().tasks()}
    assert done
    empty = PlanWriter()
    empty.add(planned().table.set_column(1, "lot", pa.nulls(planned().table.num_rows, pa.int32())))
    made = empty.finish(HEADER)
    assert made.tasks() == []
    assert made.lot(0) == []
