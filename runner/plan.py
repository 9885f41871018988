"""Planning: every wanted slot becomes a row, those still to do are packed into numbered lots. Pure.

    Sweep --(listing.expand)--> listings --(still_wanted, lots)--> rows --(PlanWriter)--> Plan

Tasks read the rows of their lot from the plan, merge joins the results to it; nothing is expanded twice.
Works through one network at a time, by column, so that a plan needs little more memory than its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from runner import keys
from runner.backends import Backend, Estimate
from runner.catalogue import Model
from runner.cells import CELL_FIELDS, Cell, Target
from runner.errors import BadInput, Problem
from runner.grid import UNFIT, Positions
from runner.listing import Listing, expand
from runner.lut import LutRow, LutTable
from runner.packing import Int32s, Lots, Packed, Seconds
from runner.plan_schema import PLAN_SCHEMA, ROW_GROUP, TEXT
from runner.plan_writer import PlanWriter
from runner.planfile import Plan, key, read_plan
from runner.result import CONTENDED, FAILED, INFEASIBLE, KILLED, MISSING, OK, WRONG_OUTPUT
from runner.spec import Sweep
from runner.task import Task

__all__ = ["ANYWHERE", "Past", "Plan", "Task", "key", "make_plan", "read_plan", "still_wanted"]

# Targets where any device will do: one, of no node.
ANYWHERE: Mapping[str, str] = {keys.ANY_TARGET: ""}


@dataclass(frozen=True)
class Past:
    """What the store knows of a slot: its best verdict so far, the reason, and how often it was tried; all of it
    since `epoch`, the one that it is wanted in."""

    verdict: str
    attempts: int
    reason: str = ""
    epoch: int = 0


# A second wrong output of the same binary is no accident, nor is a second one that was killed.
TRIES: Mapping[str, int] = {WRONG_OUTPUT: 2, KILLED: 2}


def still_wanted(past: Past | None, rounds: int) -> bool:
    """Whether a slot is to be measured (again).

    Final are ok, infeasible, and what failed or was contended `rounds` times. A slot that was tried and
    `missing` stays wanted: the device or host was at fault, and every run of a sweep tries anew.
    """
    if past is None or past.verdict == MISSING:
        return True
    if past.verdict == FAILED:
        return past.attempts < TRIES.get(past.reason, rounds)
    return past.reason == CONTENDED and past.attempts < rounds


def make_plan(
    sweep: Sweep,
    models: Sequence[Model],
    lut: LutTable,
    target: Target,
    backend: Backend,
    *,
    round_number: int = 1,
    past: Mapping[str, Past] | None = None,
    targets: Mapping[str, str] = ANYWHERE,
) -> Plan:
    """The plan of one round: all wanted rows, and lots of those whose slot has no final result yet.

    `targets` leads from each target to its node. The same arguments give the same bytes. Raises
    BadInput where nothing fits.
    """
    limits, past = sweep.spec.limits, past or {}
    final = {slot for slot, known in past.items() if not still_wanted(known, limits.rounds)}
    epochs = {slot: known.epoch for slot, known in past.items() if known.epoch}
    lots = Lots(f"{sweep.name}/{sweep.spec.run}/{round_number}", limits.lot_minutes * 60, targets)
    writer, unused = PlanWriter(), set[str]()
    unfit: Counter[str] = Counter()
    begin = cells = wanted = 0
    for listing in expand(sweep.spec, models, lut, target, unused):
        rows = _Rows(listing, backend, list(targets), begin, epochs)
        unfit.update(rows.reasons())
        cells += rows.cells
        wanted += rows.wanted
        todo = rows.todo(final)
        packed = lots.pack(rows.blocks(todo), rows.seconds(todo), todo)
        for table in rows.tables(todo, packed):
            writer.add(table)
        begin += len(rows)
    if wanted == 0:
        raise BadInput([_nothing_fits(unfit)])
    return writer.finish(
        {
            "sweep": {"name": sweep.name, "namespace": sweep.metadata.namespace, "run": sweep.spec.run},
            "round": round_number,
            # Of the newest request to measure again; most sweeps have none.
            "epoch": max(epochs.values(), default=0),
            "lots": lots.per_node * lots.nodes,
            "lots_per_node": lots.per_node,
            # Where something is known to work, what fails does not fail for all.
            "canary": [] if any(p.verdict in (OK, INFEASIBLE) for p in past.values()) else sorted(lots.first),
            "targets": dict(targets),
            "wanted": wanted,
            "cells": cells,
            "slots": cells * len(targets),
            "device_s": lots.seconds,
            "emulated": backend.EMULATED,
            # What was asked for again is in the rows, as epochs.
            "spec": sweep.spec.model_dump(
                mode="json", by_alias=True, exclude_defaults=True, exclude={"again"}
            ),
            "unused": sorted(unused),
        }
    )


class _Build(NamedTuple):
    """Export and binary request of some cells (no binary if compiled on the target), seconds to measure
    one of them and to compile."""

    export: str
    binary: str
    estimate_s: float
    compile_estimate_s: float


def _build(cell: Cell, backend: Backend) -> _Build:
    export, binary = cell.export_request.id, ""
    if backend.COMPILES_ON == "host":
        content = {"export": export, "flags": backend.compile_flags(cell)}
        binary = keys.identity("binary-request", content)
    estimate = backend.estimate(cell)
    return _Build(export, binary, measure_estimate_s(cell, estimate), estimate.compile_s)


def measure_estimate_s(cell: Cell, estimate: Estimate) -> float:
    """Seconds that a device is thought to be busy with a cell, its measuring windows included."""
    return estimate.overhead_s + cell.repeats * cell.seconds


class _Rows:
    """The plan's rows of one listing: entry after entry, each on every target. `begin` is the first's number,
    `epochs` those of slots that are wanted in a later one than 0."""

    def __init__(
        self,
        listing: Listing,
        backend: Backend,
        targets: Sequence[str],
        begin: int,
        epochs: Mapping[str, int],
    ) -> None:
        self._listing, self._targets, self._begin, self._epochs = listing, targets, begin, epochs
        self._fits = listing.unfit == 0
        self._builds = [_build(cell, backend) for cell in listing.cells(listing.built)]
        self._slots = np.stack([keys.slot_ids(listing.ids, target) for target in targets], axis=1)

    def __len__(self) -> int:
        return len(self._listing) * len(self._targets)

    @property
    def wanted(self) -> int:
        """Rows that can run."""
        return int(np.count_nonzero(self._fits)) * len(self._targets)

    @property
    def cells(self) -> int:
        """Cells that can run, each counted once."""
        return int(np.count_nonzero(self._fits & self._listing.first))

    def reasons(self) -> Mapping[str, int]:
        """How many rows can't run, by the reason."""
        counts = np.bincount(self._listing.unfit).tolist()
        reasons = list(self._listing.values[UNFIT])
        return {reasons[n]: count * len(self._targets) for n, count in enumerate(counts) if n and count}

    def todo(self, final: Container[str]) -> Positions:
        """Rows to measure: those that fit, of the entry that lists the cell first, whose slot is not `final`."""
        rows = np.flatnonzero(np.repeat(self._fits & self._listing.first, len(self._targets)))
        if not final:
            return rows
        return rows[[slot not in final for slot in self._slot_texts(rows).to_pylist()]]

    def blocks(self, rows: Positions) -> Positions:
        """Number of each row's block, (network, objective): rivals that are compared with each other."""
        grids = self._listing.grids
        blocks = {objective: n for n, objective in enumerate({grid.objective: None for grid in grids})}
        return np.array([blocks[grid.objective] for grid in grids])[self._listing.grid[self._entries(rows)]]

    def seconds(self, rows: Positions) -> Seconds:
        """Seconds that measuring each row is estimated to take."""
        each = np.array([build.estimate_s for build in self._builds], dtype=np.float64)
        return each[self._listing.build[self._entries(rows)]]

    def tables(self, todo: Positions, packed: Packed) -> Iterator[pa.Table]:
        """All rows: those to do in the order of work, then the others."""
        idle = np.ones(len(self), dtype=bool)
        idle[todo] = False
        rows = np.concatenate([todo[packed.order], np.flatnonzero(idle)])
        for start in range(0, len(rows), ROW_GROUP):
            part = slice(start, start + ROW_GROUP)
            yield self._table(rows[part], packed.lots[part], packed.positions[part])

    def _table(self, rows: Positions, lots: Int32s, positions: Int32s) -> pa.Table:
        """Some rows; lots and positions are those of the first ones, the rest has none."""
        listing, entries = self._listing, self._entries(rows)
        numbers = listing.columns(entries)
        nothing = pa.nulls(len(rows) - len(lots), pa.int32())
        slots = self._slot_texts(rows)
        columns: dict[str, Any] = {
            "row": rows + self._begin,
            "lot": pa.concat_arrays([pa.array(lots), nothing]),
            "position": pa.concat_arrays([pa.array(positions), nothing]),
            "slot": slots,
            "cell": _hex(listing.ids[entries]),
            "target": _looked_up("target", self._targets, rows % len(self._targets)),
            "epoch": self._epochs_of(slots),
        }
        grids, grid = listing.grids, listing.grid[entries]
        of_grid: dict[str, Sequence[Any]] = {
            "model": [grid.model.name for grid in grids],
            "objective": [grid.objective for grid in grids],
            "location": [grid.model.location for grid in grids],
            "lut_throughput_images_s": [(grid.row or LutRow()).throughput_images_s for grid in grids],
            "lut_latency_p95_s": [(grid.row or LutRow()).latency_p95_s for grid in grids],
        }
        columns |= {name: _looked_up(name, values, grid) for name, values in of_grid.items()}
        build = listing.build[entries]
        for name, values in zip(_Build._fields, zip(*self._builds, strict=True), strict=True):
            columns[name] = _looked_up(name, values, build)
        for name in ("base", UNFIT, *CELL_FIELDS):
            columns[name] = _looked_up(name, list(listing.values[name]), numbers[name])
        return pa.table([columns[name] for name in PLAN_SCHEMA.names], schema=PLAN_SCHEMA)

    def _epochs_of(self, slots: pa.Array) -> pa.Array:
        if not self._epochs:
            return pa.array(np.zeros(len(slots), dtype=np.int16))
        return pa.array([self._epochs.get(slot, 0) for slot in slots.to_pylist()], pa.int16())

    def _entries(self, rows: Positions) -> Positions:
        return rows // len(self._targets)

    def _slot_texts(self, rows: Positions) -> pa.Array:
        return _hex(self._slots.reshape(-1, self._slots.shape[-1])[rows])


def _looked_up(name: str, values: Sequence[Any], numbers: npt.NDArray[np.integer[Any]]) -> pa.Array:
    """A column of the plan from distinct values and, for each row, the number of its value."""
    kind = PLAN_SCHEMA.field(name).type
    if kind == TEXT:
        return pa.array(values, pa.string()).take(pa.array(numbers)).dictionary_encode()
    return pa.array(values, kind).take(pa.array(numbers))


def _hex(ids: keys.Ids) -> pa.Array:
    ends = np.arange(0, (len(ids) + 1) * keys.ID_HEX_DIGITS, keys.ID_HEX_DIGITS, dtype=np.int32)
    text = ids.tobytes().hex().encode()
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(text))


def _nothing_fits(unfit: Counter[str]) -> Problem:
    if not unfit:
        return Problem("spec.exclude", "takes every point away")
    (reason, _), *_ = unfit.most_common(1)
    return Problem("spec.grid", f"none of {unfit.total()} points fits: {reason}", "other cores or instances")
