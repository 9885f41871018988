"""The plan as a file: one Parquet table, a row for each (objective, slot, target), the sweep in its metadata. Pure.

    plan.make_plan --(PlanWriter)--> plans/<digest>.parquet --(read_plan)--> Plan: lots for tasks, columns for merge

`row` is the grid's order, that of the table. In the file, network after network, rows with a lot come
first and in the order they were packed: a lot's rows are in one row group or two, and reading a lot reads
no others.

A lot belongs to one node. The column `lot` counts the lots of a node as they were packed; their numbers
are those of all nodes, node after node, `lots_per_node` each (the last of some may be empty), and in each
the lots come first that are the `canary`: one of every network, so that what fails for all is seen early.
"""

from __future__ import annotations

import bisect
import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner import keys
from runner.cells import CELL_FIELDS, Cell
from runner.plan_schema import METADATA_KEY, PLAN_SCHEMA, SCHEMA
from runner.spec import API_VERSION, KIND, Sweep
from runner.task import Task, in_flight

_TASK_COLUMNS = (
    "lot", "slot", "cell", "target", "model", "epoch", "location", "export", "binary", "estimate_s",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A plan: `header` is what its metadata holds, `data` the file, decoded as far as it is asked for."""

    header: Mapping[str, Any]
    data: bytes

    @cached_property
    def digest(self) -> str:
        """Its name in the store."""
        return keys.digest_bytes(self.data)[: keys.ID_HEX_DIGITS]

    @property
    def round(self) -> int:
        return int(self.header["round"])

    @property
    def lots(self) -> int:
        return int(self.header["lots"])

    @property
    def device_s(self) -> float:
        """Seconds that all its tasks are estimated to take on a device."""
        return float(self.header["device_s"])

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def names(self) -> list[str]:
        """Of its columns."""
        return list(self._file.schema_arrow.names)

    @property
    def table(self) -> pa.Table:
        """Every row and column, decoded anew each time: 200 MB for a million rows. `columns` is cheaper."""
        return self.columns(*self.names)

    def columns(self, *names: str, where: Callable[[pa.Table], pa.ChunkedArray] | None = None) -> pa.Table:
        """Some columns in the order of the file, of every row or of those that `where`, which is shown a row
        group's columns, says true of; no more than one row group is held besides."""
        # No pc.Expression: filtering a table by one starts an execution engine, 13 ms and threads that keep
        # memory, for each row group.
        # No threads: each would keep memory of its own.
        groups = (
            self._file.read_row_group(n, columns=names, use_threads=False)
            for n in range(self._file.num_row_groups)
        )
        kept = [group if where is None else group.filter(where(group)) for group in groups]
        return pa.concat_tables(kept).select(names).unify_dictionaries()

    @property
    def sweep(self) -> Sweep:
        """The sweep as it was when it was planned."""
        named = {name: value for name, value in self.header["sweep"].items() if name != "run"}
        document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": named, "spec": self.header["spec"]}
        return Sweep.model_validate_json(orjson.dumps(document))

    @property
    def nodes(self) -> list[str]:
        """The nodes of all targets, in order; one without a name where any will do."""
        return list(dict.fromkeys(self._node_of.values()))

    @property
    def lots_per_node(self) -> int:
        return int(self.header["lots_per_node"])

    @property
    def canary(self) -> int:
        """How many lots of each node, the first ones, are its canary; none once something had a good end."""
        return len(self.header["canary"])

    def node(self, lot: int) -> str:
        """The node that a lot is measured on."""
        return self.nodes[lot // self.lots_per_node]

    def lot(self, number: int) -> list[Task]:
        """The tasks of one lot, in order."""
        if number >= self.lots:
            return []
        node, packed = self.node(number), self._packed(number % self.lots_per_node)
        first = bisect.bisect_left(self._last_lots, packed)
        beyond = bisect.bisect_left(self._last_lots, packed + 1) + 1
        groups = self._groups[first:beyond]
        tasks = [task for group in groups for task in self._lots_of_group(group).get(packed, ())]
        return [task for task in tasks if self._node_of[task.target] == node]

    def by_lot(self) -> dict[int, list[Task]]:
        """Every task in the order of work, by its lot."""
        first = {node: number * self.lots_per_node for number, node in enumerate(self.nodes)}
        lots: dict[int, list[Task]] = {}
        for group in self._groups:
            for packed, tasks in self._lots_of_group(group).items():
                number = self._number(packed)
                for task in tasks:
                    lots.setdefault(first[self._node_of[task.target]] + number, []).append(task)
        return dict(sorted(lots.items()))

    def tasks(self) -> list[Task]:
        """Every task of the plan, lot after lot."""
        return [task for tasks in self.by_lot().values() for task in tasks]

    def sizes(self) -> dict[int, int]:
        """How many slots each lot holds, of those that hold any."""
        counted = self._todo("target").group_by(["number", "target"]).aggregate([("lot", "count")])
        first = {node: number * self.lots_per_node for number, node in enumerate(self.nodes)}
        sizes: Counter[int] = Counter()
        for row in counted.to_pylist():
            sizes[first[self._node_of[row["target"]]] + row["number"]] += row["lot_count"]
        return dict(sorted(sizes.items()))

    def stretches(self, sizes: Mapping[int, int]) -> dict[str, list[int]]:
        """First lot and count of each node that has something to do."""
        found: dict[str, list[int]] = {}
        for lot in sizes:
            stretch = found.setdefault(self.node(lot), [lot - lot % self.lots_per_node, 0])
            stretch[1] = lot - stretch[0] + 1
        return found

    def exports(self) -> dict[str, keys.ExportRequest]:
        """What is to export, by what it is called in flight, in the order of work: an export task's number is its
        place here."""
        names = ["export", "source", "weights", "image_size", "opset", "location"]
        first = self._todo(*names).group_by(names).aggregate([("number", "min")]).to_pylist()
        found: dict[str, keys.ExportRequest] = {}
        for row in sorted(first, key=lambda row: (row["number_min"], row["export"], row["location"])):
            request = keys.ExportRequest(*(row[name] for name in names[1:]))
            found.setdefault(in_flight(row["export"], self._epochs_of_builds.get(row["export"], 0)), request)
        return found

    @cached_property
    def compiled_with(self) -> Mapping[str, int]:
        """The compile task of each binary: the number in its node of the first lot that needs it, so that
        each is made once, and no later than it is measured."""
        first = self._todo("binary").group_by("binary").aggregate([("number", "min")])
        pairs = zip(first["binary"].to_pylist(), first["number_min"].to_pylist(), strict=True)
        return {binary: number for binary, number in pairs if binary}

    def to_compile(self, number: int) -> list[Task]:
        """A task for each binary of a compile task."""
        found: dict[str, Task] = {}
        wanted = {binary for binary, task in self.compiled_with.items() if task == number}
        for first in range(0, self.lots, max(1, self.lots_per_node)):
            if found.keys() == wanted:
                break
            for task in self.lot(first + number):
                if task.binary in wanted:
                    found.setdefault(task.binary, task)
        return list(found.values())

    @cached_property
    def epochs(self) -> Mapping[str, int]:
        """Slots that are wanted in a later epoch than 0: results of an earlier one are not what was asked for."""
        if not self.header.get("epoch"):
            return {}
        rows = self.columns("slot", "epoch", where=lambda rows: pc.greater(rows["epoch"], 0))
        return dict(zip(rows["slot"].to_pylist(), rows["epoch"].to_pylist(), strict=True))

    @cached_property
    def _anew(self) -> frozenset[str]:
        """Binaries that a slot is to be measured again with, whichever other slots share them."""
        if not self.header.get("epoch"):
            return frozenset()
        rows = self.columns("binary", "epoch", "lot", where=in_a_lot)
        return frozenset(rows["binary"].filter(pc.greater(rows["epoch"], 0)).to_pylist())

    @cached_property
    def _epochs_of_builds(self) -> Mapping[str, int]:
        """The newest epoch of the slots that need an export or a binary, where any was asked for again."""
        if not self.header.get("epoch"):
            return {}
        again = self.columns("export", "binary", "epoch", where=lambda rows: pc.greater(rows["epoch"], 0))
        found: dict[str, int] = {}
        for name in ("export", "binary"):
            newest = again.group_by(name).aggregate([("epoch", "max")])
            found.update(zip(newest[name].to_pylist(), newest["epoch_max"].to_pylist(), strict=True))
        return found

    def _todo(self, *names: str) -> pa.Table:
        """Columns of the rows in lots, with the lot's `number` in its node."""
        table = self.columns("lot", *names, where=in_a_lot)
        numbers = [self._number(packed) for packed in range(self.lots_per_node)]
        return table.append_column("number", pa.array(numbers, pa.int32()).take(table["lot"]))

    def _number(self, packed: int) -> int:
        """The number in its node of a lot, from its place among the packed ones."""
        canary: list[int] = self.header["canary"]
        before = bisect.bisect_left(canary, packed)
        if before < len(canary) and canary[before] == packed:
            return before
        return len(canary) + packed - before

    def _packed(self, number: int) -> int:
        """The inverse of `_number`."""
        canary: list[int] = self.header["canary"]
        if number < len(canary):
            return canary[number]
        packed = number - len(canary)
        for lot in canary:
            packed += lot <= packed
        return packed

    @property
    def _node_of(self) -> Mapping[str, str]:
        targets: Mapping[str, str] = self.header["targets"]
        return targets

    @cached_property
    def _file(self) -> pq.ParquetFile:
        return pq.ParquetFile(pa.BufferReader(self.data))

    @cached_property
    def _groups(self) -> list[int]:
        """Row groups that hold tasks."""
        metadata, lot = self._file.metadata, PLAN_SCHEMA.get_field_index("lot")
        statistics = [metadata.row_group(n).column(lot).statistics for n in range(metadata.num_row_groups)]
        return [n for n, found in enumerate(statistics) if found.has_min_max]

    @cached_property
    def _last_lots(self) -> list[int]:
        metadata, lot = self._file.metadata, PLAN_SCHEMA.get_field_index("lot")
        return [metadata.row_group(n).column(lot).statistics.max for n in self._groups]

    @cached_property
    def _lots_of_group(self) -> Any:
        # Lots are asked for one after the other; a lot may lie across two groups.
        return lru_cache(maxsize=2)(self._read_group)

    def _read_group(self, group: int) -> dict[int, list[Task]]:
        wanted = [*_TASK_COLUMNS, *CELL_FIELDS]
        rows = self._file.read_row_group(group, columns=list(dict.fromkeys(wanted)))
        rows = rows.filter(in_a_lot(rows))
        values = {name: rows[name].to_pylist() for name in rows.column_names}
        cells = [Cell(*fields) for fields in zip(*(values[name] for name in CELL_FIELDS), strict=True)]
        lots: dict[int, list[Task]] = {}
        values["anew"] = [binary in self._anew for binary in values["binary"]]
        for name in ("export", "binary"):
            values[f"{name}_epoch"] = [self._epochs_of_builds.get(one, 0) for one in values[name]]
        before = (
            "slot", "cell", "target", "model", "epoch", "location", "export", "binary", "estimate_s", "anew",
            "export_epoch", "binary_epoch",
        )  # fmt: skip
        columns = zip(*(values[name] for name in before), strict=True)
        for lot, cell, (slot, id_, *rest) in zip(values["lot"], cells, columns, strict=True):
            lots.setdefault(lot, []).append(Task(slot, id_, cell, *rest))
        return lots


def in_a_lot(rows: pa.Table) -> pa.ChunkedArray:
    """Which rows are to be measured, for `Plan.columns`."""
    return pc.is_valid(rows["lot"])


def can_run(rows: pa.Table) -> pa.ChunkedArray:
    """Which rows are of points that fit the hardware, for `Plan.columns`."""
    return pc.equal(rows["unfit"], "")


def key(digest: str) -> str:
    """Where a sweep's folder in the store has the plan of that digest."""
    return f"plans/{digest}.parquet"


def read_plan(data: bytes) -> Plan:
    """A plan from its bytes. Raises ValueError where they are none that this version reads."""
    metadata = pq.read_metadata(io.BytesIO(data)).metadata or {}
    header = orjson.loads(metadata.get(METADATA_KEY.encode(), b"{}"))
    if header.get("schema") != SCHEMA:
        raise ValueError(f"plan of schema {header.get('schema')}, this aicsweep reads {SCHEMA}")
    return Plan(header, data)
