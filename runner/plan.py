"""The plan: every wanted slot as a row, those still to do in numbered lots. Immutable, named by its digest. Pure.

A plan is one Parquet table, a row for each (objective, slot, target), with the sweep in its metadata.
Tasks read the rows of their lot from it, merge joins the results to it; nothing is expanded twice.
Rows with a lot come first, in the order of work; `row` keeps the grid's order for the table.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner import keys
from runner.backends import Backend
from runner.catalogue import Model
from runner.cells import CELL_FIELDS, Cell, Entry, Target, expand
from runner.errors import BadInput, Problem
from runner.lut import LutRow, LutTable
from runner.result import CONTENDED, FAILED, MISSING, WRONG_OUTPUT
from runner.spec import Sweep

SCHEMA = 1
ROW_GROUP = 10_000

_text = pa.dictionary(pa.int32(), pa.string())
_CELL_TYPES: Mapping[str, pa.DataType] = {
    **{
        name: pa.int32()
        for name in ("image_size", "opset", "batch_size", "cores", "instances", "set_size", "ols")
    },
    "repeats": pa.int32(),
    "seconds": pa.float64(),
}
PLAN_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("lot", pa.int32()),
        ("position", pa.int32()),
        ("slot", pa.string()),
        ("cell", pa.string()),
        ("target", _text),
        ("epoch", pa.int16()),
        ("model", _text),
        ("objective", _text),
        ("base", _text),
        ("unfit", _text),
        ("location", _text),
        ("export", _text),
        ("binary", _text),
        ("estimate_s", pa.float64()),
        ("compile_estimate_s", pa.float64()),
        ("lut_throughput_images_s", pa.float64()),
        ("lut_latency_p95_s", pa.float64()),
        *((name, _CELL_TYPES.get(name, _text)) for name in CELL_FIELDS),
    ]
)


@dataclass(frozen=True)
class Past:
    """What the store knows of a slot: its best verdict so far, the reason, and how often it was tried."""

    verdict: str
    attempts: int
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """One slot to measure, read from a lot."""

    slot: str
    cell_id: str
    cell: Cell
    target: str
    model: str
    epoch: int
    location: str
    estimate_s: float


@dataclass(frozen=True)
class Plan:
    """A plan in memory. `header` is what its metadata holds, `digest` names it in the store."""

    header: Mapping[str, Any]
    table: pa.Table
    data: bytes

    @property
    def digest(self) -> str:
        return keys.digest_bytes(self.data)[: keys.ID_HEX_DIGITS]

    @property
    def round(self) -> int:
        return int(self.header["round"])

    @property
    def lots(self) -> int:
        return int(self.header["lots"])

    def lot(self, number: int) -> list[Task]:
        """The tasks of one lot, in order."""
        rows = self.table.filter(pc.equal(self.table["lot"], number)).sort_by("position").to_pylist()
        return [_task(row) for row in rows]

    def tasks(self) -> list[Task]:
        """Every task of the plan, lot after lot."""
        rows = self.table.filter(pc.is_valid(self.table["lot"])).to_pylist()
        return [_task(row) for row in rows]


def make_plan(
    sweep: Sweep,
    models: Sequence[Model],
    lut: LutTable,
    target: Target,
    backend: Backend,
    *,
    round_number: int = 1,
    past: Mapping[str, Past] | None = None,
    targets: Sequence[str] = (keys.ANY_TARGET,),
) -> Plan:
    """The plan of one round: all wanted rows, and lots of those whose slot has no final result yet.

    The same arguments give the same bytes. Raises BadInput where nothing fits.
    """
    builder = _Builder(sweep, lut, backend, past or {}, targets)
    unused: set[str] = set()
    for model, entries in expand(sweep.spec, models, lut, target, unused):
        builder.add(model, entries)
    table = builder.table()
    if builder.wanted == 0:
        raise BadInput([_nothing_fits(table)])
    lots, positions = _lots(builder, sweep, round_number)
    table = table.set_column(1, "lot", lots).set_column(2, "position", positions)
    # Work first and in its order, so that a lot's rows are neighbours in the file.
    order = pc.sort_indices(table, [("lot", "ascending"), ("position", "ascending"), ("row", "ascending")])
    table = table.take(order)
    count = pc.max(table["lot"]).as_py()
    header = {
        "schema": SCHEMA,
        "sweep": {"name": sweep.name, "namespace": sweep.metadata.namespace, "run": sweep.spec.run},
        "round": round_number,
        "lots": 0 if count is None else count + 1,
        "wanted": builder.wanted,
        "emulated": backend.EMULATED,
        "spec": sweep.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "unused": sorted(unused),
    }
    return Plan(header, table, _to_bytes(table, header))


def read_plan(data: bytes) -> Plan:
    """A plan from its bytes. Raises ValueError where they are none that this version reads."""
    table = pq.read_table(io.BytesIO(data))
    header = orjson.loads((table.schema.metadata or {}).get(b"aicsweep", b"{}"))
    if header.get("schema") != SCHEMA:
        raise ValueError(f"plan of schema {header.get('schema')}, this aicsweep reads {SCHEMA}")
    return Plan(header, table, data)


# A second wrong output of the same binary is no accident.
TRIES_OF_WRONG_OUTPUT = 2


def still_wanted(past: Past | None, rounds: int) -> bool:
    """Whether a slot is to be measured (again).

    Final are ok, infeasible, and what failed or was contended `rounds` times. A slot that was tried and
    `missing` stays wanted: the device or host was at fault, and every run of a sweep tries anew.
    """
    if past is None or past.verdict == MISSING:
        return True
    if past.verdict == FAILED:
        return past.attempts < (TRIES_OF_WRONG_OUTPUT if past.reason == WRONG_OUTPUT else rounds)
    return past.reason == CONTENDED and past.attempts < rounds


class _Builder:
    """Collects rows chunk by chunk into Arrow, and for the wanted ones block, seconds and row."""

    def __init__(
        self, sweep: Sweep, lut: LutTable, backend: Backend, past: Mapping[str, Past], targets: Sequence[str]
    ) -> None:
        self.sweep, self.lut, self.backend, self.past, self.targets = sweep, lut, backend, past, targets
        self.batches: list[pa.RecordBatch] = []
        self.rows = self.wanted = 0
        self.todo_rows: list[np.ndarray[Any, Any]] = []
        self.todo_blocks: list[np.ndarray[Any, Any]] = []
        self.todo_seconds: list[np.ndarray[Any, Any]] = []
        self._blocks: dict[tuple[str, str], int] = {}
        self._exports: dict[tuple[str, int, int], str] = {}
        self._binaries: dict[tuple[Any, ...], tuple[str, float, float]] = {}

    def add(self, model: Model, entries: Sequence[Entry]) -> None:
        tuples: list[tuple[Any, ...]] = []
        todo: list[tuple[int, int, float]] = []
        rounds = self.sweep.spec.limits.rounds
        for entry in entries:
            cell = entry.cell
            row = self.lut.get((model.name, entry.objective)) or LutRow()
            export, binary, estimate, compile_estimate = self._work(cell)
            for target in self.targets:
                slot = keys.slot_id(entry.id, target)
                if not entry.unfit:
                    self.wanted += 1
                    if entry.first and still_wanted(self.past.get(slot), rounds):
                        block = self._blocks.setdefault((model.source, entry.objective), len(self._blocks))
                        todo.append((self.rows, block, estimate))
                tuples.append((
                    self.rows, None, None, slot, entry.id, target, 0, model.name, entry.objective, entry.base,
                    entry.unfit, model.location, export, binary, estimate, compile_estimate,
                    row.throughput_images_s, row.latency_p95_s,
                    cell.source, cell.weights, cell.image_size, cell.opset, cell.precision, cell.backend,
                    cell.batch_size, cell.cores, cell.instances, cell.set_size, cell.seconds, cell.repeats,
                    cell.hardware, cell.ols, cell.mos, cell.extra, cell.neighbours,
                ))  # fmt: skip
                self.rows += 1
        self.batches.append(_batch(tuples))
        if todo:
            rows, blocks, seconds = zip(*todo, strict=True)
            self.todo_rows.append(np.array(rows, dtype=np.int64))
            self.todo_blocks.append(np.array(blocks, dtype=np.int32))
            self.todo_seconds.append(np.array(seconds))

    def _work(self, cell: Cell) -> tuple[str, str, float, float]:
        """Export request, binary request (empty if compiled on the target), seconds to measure, to compile."""
        graph = (cell.source, cell.image_size, cell.opset)
        export = self._exports.get(graph)
        if export is None:
            export = self._exports.setdefault(graph, cell.export_request.id)
        compiled = (*graph, cell.precision, cell.batch_size, cell.cores, cell.ols, cell.mos, cell.extra)
        found = self._binaries.get(compiled)
        if found is None:
            estimate = self.backend.estimate(cell)
            binary = ""
            if self.backend.COMPILES_ON == "host":
                binary = keys.identity(
                    "binary-request", {"export": export, "flags": self.backend.compile_flags(cell)}
                )
            found = self._binaries.setdefault(compiled, (binary, estimate.overhead_s, estimate.compile_s))
        binary, overhead_s, compile_s = found
        return export, binary, overhead_s + cell.repeats * cell.seconds, compile_s

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self.batches, PLAN_SCHEMA).unify_dictionaries()


def _batch(rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    arrays = []
    for field, values in zip(PLAN_SCHEMA, zip(*rows, strict=True), strict=True):
        if pa.types.is_dictionary(field.type):
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=PLAN_SCHEMA)


def _lots(builder: _Builder, sweep: Sweep, round_number: int) -> tuple[pa.Array, pa.Array]:
    """Lot and position of every row (null where nothing is to do).

    Rivals of one (model, objective) stay together in seeded random order; a block that fits a lot
    is never split, one that does not begins a lot of its own.
    """
    lots = np.zeros(builder.rows, dtype=np.int32)
    positions = np.zeros(builder.rows, dtype=np.int32)
    idle = np.ones(builder.rows, dtype=bool)
    if builder.todo_rows:
        rows = np.concatenate(builder.todo_rows)
        blocks = np.concatenate(builder.todo_blocks)
        seconds = np.concatenate(builder.todo_seconds)
        seed = keys.digest_bytes(f"{sweep.name}/{sweep.spec.run}/{round_number}".encode())
        order = np.lexsort((np.random.default_rng(int(seed[:16], 16)).random(len(rows)), blocks))
        totals = np.bincount(blocks, weights=seconds)
        limit = sweep.spec.limits.lot_minutes * 60
        lot, used, block, position = 0, 0.0, -1, 0
        for index in order.tolist():
            cost = seconds[index]
            starts_block = blocks[index] != block
            block = blocks[index]
            needed = totals[block] if starts_block else cost
            if used > 0 and used + min(needed, limit) > limit + 1e-9:
                lot, used, position = lot + 1, 0.0, 0
            row = rows[index]
            lots[row], positions[row], idle[row] = lot, position, False
            used += cost
            position += 1
    return pa.array(lots, mask=idle), pa.array(positions, mask=idle)


def _to_bytes(table: pa.Table, header: Mapping[str, Any]) -> bytes:
    table = table.replace_schema_metadata({"aicsweep": orjson.dumps(header, option=orjson.OPT_SORT_KEYS)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP)
    return sink.getvalue()


def _nothing_fits(table: pa.Table) -> Problem:
    if table.num_rows == 0:
        return Problem("spec.exclude", "takes every point away")
    counts = (
        table.group_by("unfit")
        .aggregate([("row", "count")])
        .sort_by([("row_count", "descending")])
        .to_pylist()
    )
    return Problem(
        "spec.grid", f"none of {table.num_rows} points fits: {counts[0]['unfit']}", "other cores or instances"
    )


def _task(row: Mapping[str, Any]) -> Task:
    return Task(
        slot=row["slot"],
        cell_id=row["cell"],
        cell=Cell(**{name: row[name] for name in CELL_FIELDS}),
        target=row["target"],
        model=row["model"],
        epoch=row["epoch"],
        location=row["location"],
        estimate_s=row["estimate_s"],
    )
