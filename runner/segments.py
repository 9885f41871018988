"""Segments read back: many files of results become one table, with the number of its segment on each row.

All is done by column. A damaged segment is named, and the others count.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import zstandard

from runner.keys import digest_bytes
from runner.plan_schema import TEXT
from runner.result import TABLE_SCHEMA, Segment, decode_segment, parse_rows

# Bytes of rows parsed in one go: many small segments share one call.
PARSE_BYTES = 4 << 20
# What a segment's header says of each of its rows.
HEADER_TEXT = ("plan", "writer", "node", "host", "cpu", "kernel", "os", "aicsweep_version", "tools")
HEADER_NUMBERS = ("round", "lot")


@dataclass
class Results:
    """All results of a sweep's run: rows with the number of their segment, what each segment's header
    says (a row a segment), the segments' keys, what could not be read, and the SHA-256 of all of them."""

    table: pa.Table
    headers: pa.Table
    segments: tuple[str, ...]
    damaged: Mapping[str, str]
    digests: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str, rows: Any) -> pa.Array:
        """A column of the headers for some rows (null where a row's number is null)."""
        return self.headers[name].combine_chunks().take(self.table["segment"].take(rows).combine_chunks())


def parse_segments(segments: Iterable[tuple[str, bytes]]) -> Results:
    """Parse segments (key, bytes). A damaged one is named in `damaged`; the others count."""
    reader = _Reader()
    for key, data in segments:
        reader.add(key, data)
    return reader.finish()


class _Reader:
    """Segments as they come; many are parsed together."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._headers: dict[str, list[Any]] = {name: [] for name in (*HEADER_TEXT, *HEADER_NUMBERS)}
        self._damaged: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._tables: list[pa.Table] = []
        self._waiting: dict[str, Segment] = {}
        self._bytes = 0
        self._decompressor = zstandard.ZstdDecompressor()

    def add(self, key: str, data: bytes) -> None:
        self._digests[key] = digest_bytes(data)
        try:
            segment = decode_segment(data, self._decompressor)
        except ValueError as error:
            self._damaged[key] = str(error)
            return
        others = next(iter(self._waiting.values()), segment)
        if self._bytes > PARSE_BYTES or segment.names != others.names:
            self._parse()
        self._waiting[key] = segment
        self._bytes += len(segment.lines)

    def finish(self) -> Results:
        self._parse()
        schema = TABLE_SCHEMA.append(pa.field("segment", pa.int32()))
        table = pa.concat_tables([schema.empty_table(), *self._tables]).unify_dictionaries()
        headers = pa.table(
            {
                **{name: pa.array(self._headers[name], TEXT) for name in HEADER_TEXT},
                **{name: pa.array(self._headers[name], pa.int64()) for name in HEADER_NUMBERS},
            }
        )
        return Results(table, headers, tuple(self._keys), self._damaged, self._digests)

    def _parse(self) -> None:
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        try:
            self._take(waiting)
        except ValueError:
            # One of them: find out which, so that the others count.
            for key, segment in waiting.items():
                try:
                    self._take({key: segment})
                except ValueError as error:
                    self._damaged[key] = f"damaged segment: {error}"

    def _take(self, segments: Mapping[str, Segment]) -> None:
        if not segments:
            return
        rows = parse_rows(list(segments.values()))
        first = len(self._keys)
        counts = [segment.rows for segment in segments.values()]
        owner = np.repeat(np.arange(first, first + len(counts), dtype=np.int32), counts)
        self._tables.append(rows.append_column("segment", pa.array(owner)))
        self._keys += segments
        for segment in segments.values():
            for name in HEADER_TEXT:
                self._headers[name].append(sys.intern(_as_text(segment.header.get(name, ""))))
            for name in HEADER_NUMBERS:
                self._headers[name].append(int(segment.header.get(name, 0)))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
