"""A plan's file, written as its rows come: a row group at a time, so that a million rows are never held twice."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from runner.plan_schema import DISTINCT, METADATA_KEY, PLAN_SCHEMA, ROW_GROUP, SCHEMA
from runner.planfile import Plan


class _Pieces(io.RawIOBase):
    """A file that keeps what is written in pieces: one that grows is copied on its way, twice its size."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        self.pieces.append(bytes(data))
        self._size += len(self.pieces[-1])
        return len(self.pieces[-1])


class PlanWriter:
    """Writes a plan as its rows come, a row group at a time; `finish` gives the plan."""

    def __init__(self) -> None:
        self._sink = _Pieces()
        self._file = pq.ParquetWriter(
            self._sink,
            PLAN_SCHEMA,
            compression="zstd",
            use_dictionary=[name for name in PLAN_SCHEMA.names if name not in DISTINCT],
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
        self._file.add_key_value_metadata({METADATA_KEY: orjson.dumps(full, option=orjson.OPT_SORT_KEYS)})
        self._file.close()
        return Plan(full, b"".join(self._sink.pieces))

    def _write(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(self._waiting).unify_dictionaries().combine_chunks()
            self._file.write_table(rows, row_group_size=rows.num_rows)
            self._waiting.clear()
