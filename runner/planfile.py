"""The plan as a file: one Parquet table, a row for each (objective, slot, target), the sweep in its metadata. Pure.

    plan.make_plan --(Writer)--> plans/<digest>.parquet --(read_plan)--> Plan: lots for tasks, columns for merge

`row` is the grid's order, that of the table. In the file, network after network, rows with a lot come
first and in the order of work: a lot's rows are in one row group or two, and reading a lot reads no others.
"""

from __future__ import annotations

import bisect
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner import keys
from runner.cells import CELL_FIELDS, Cell

SCHEMA = 1
# Rows of a row group, at least: what reading one lot costs.
ROW_GROUP = 10_000

TEXT = pa.dictionary(pa.int32(), pa.string())
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
        ("target", TEXT),
        ("epoch", pa.int16()),
        ("model", TEXT),
        ("objective", TEXT),
        ("base", TEXT),
        ("unfit", TEXT),
        ("location", TEXT),
        ("export", TEXT),
        ("binary", TEXT),
        ("estimate_s", pa.float64()),
        ("compile_estimate_s", pa.float64()),
        ("lut_throughput_images_s", pa.float64()),
        ("lut_latency_p95_s", pa.float64()),
        *((name, _CELL_TYPES.get(name, TEXT)) for name in CELL_FIELDS),
    ]
)
_METADATA_KEY = "aicsweep"
# Never twice the same value: a dictionary would only cost time and space.
_DISTINCT = {"row", "position", "slot", "cell"}


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


_TASK_COLUMNS = ("lot", "position", "slot", "cell", "target", "model", "epoch", "location", "estimate_s")


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
    def names(self) -> list[str]:
        """Of its columns."""
        return list(self._file.schema_arrow.names)

    @property
    def table(self) -> pa.Table:
        """Every row and column, decoded anew each time: 200 MB for a million rows. `columns` is cheaper."""
        return self.columns(*self.names)

    def columns(self, *names: str, where: pc.Expression | None = None) -> pa.Table:
        """Some columns in the order of the file, of every row or of those that `where` (of the same columns)
        keeps; no more than one row group is held besides."""
        groups = (self._file.read_row_group(n, columns=names) for n in range(self._file.num_row_groups))
        kept = [group if where is None else group.filter(where) for group in groups]
        return pa.concat_tables(kept).select(names).unify_dictionaries()

    def lot(self, number: int) -> list[Task]:
        """The tasks of one lot, in order."""
        first = bisect.bisect_left(self._last_lots, number)
        beyond = bisect.bisect_left(self._last_lots, number + 1) + 1
        groups = self._groups[first:beyond]
        return [task for group in groups for task in self._lots_of_group(group).get(number, ())]

    def tasks(self) -> list[Task]:
        """Every task of the plan, lot after lot."""
        return [
            task for group in self._groups for tasks in self._lots_of_group(group).values() for task in tasks
        ]

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
        rows = rows.filter(pc.is_valid(rows["lot"]))
        values = {name: rows[name].to_pylist() for name in rows.column_names}
        cells = [Cell(*fields) for fields in zip(*(values[name] for name in CELL_FIELDS), strict=True)]
        lots: dict[int, list[Task]] = {}
        columns = (values[name] for name in ("lot", "slot", "cell", "target", "model", "epoch", "location"))
        for cell, (lot, slot, id_, target, model, epoch, location), estimate_s in zip(
            cells, zip(*columns, strict=True), values["estimate_s"], strict=True
        ):
            task = Task(slot, id_, cell, target, model, epoch, location, estimate_s)
            lots.setdefault(lot, []).append(task)
        return lots


def read_plan(data: bytes) -> Plan:
    """A plan from its bytes. Raises ValueError where they are none that this version reads."""
    metadata = pq.read_metadata(io.BytesIO(data)).metadata or {}
    header = orjson.loads(metadata.get(_METADATA_KEY.encode(), b"{}"))
    if header.get("schema") != SCHEMA:
        raise ValueError(f"plan of schema {header.get('schema')}, this aicsweep reads {SCHEMA}")
    return Plan(header, data)


class Writer:
    """Writes a plan as its rows come, a row group at a time; `finish` gives the plan."""

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self._file = pq.ParquetWriter(
            self._sink,
            PLAN_SCHEMA,
            compression="zstd",
            use_dictionary=[name for name in PLAN_SCHEMA.names if name not in _DISTINCT],
            write_statistics=["lot"],
        )
        self._waiting: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        if sum(table.num_rows for table in self._waiting) >= ROW_GROUP:
            self._write()

    def finish(self, header: Mapping[str, Any]) -> Plan:
        """`header` and the schema's number become the file's metadata."""
        self._write()
        full = {"schema": SCHEMA, **header}
        self._file.add_key_value_metadata({_METADATA_KEY: orjson.dumps(full, option=orjson.OPT_SORT_KEYS)})
        self._file.close()
        return Plan(full, self._sink.getvalue())

    def _write(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(self._waiting).unify_dictionaries().combine_chunks()
            self._file.write_table(rows, row_group_size=rows.num_rows)
            self._waiting.clear()
