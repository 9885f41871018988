"""A sweep's table as it is by now: the published one, or what the segments give before a round has merged.

    plan + segments in the store --`so_far`--> Snapshot --`to_lines`--> log of a pod --`from_lines`--> Snapshot

Nothing is written. The text form is for those who can read a pod's log and not the store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from runner import engine, merge, tables
from runner.errors import StoreError
from runner.result import FAILED, INFEASIBLE, MISSING, OK
from runner.store import NotFound, Store

_BEGIN, _END = "-----BEGIN AICSWEEP TABLE-----", "-----END AICSWEEP TABLE-----"
_LINE = 4096


@dataclass(frozen=True)
class Snapshot:
    """A table; `published` is one that a merge made, anything else may still grow."""

    table: pa.Table
    published: bool

    @property
    def slots(self) -> tuple[int, int]:
        """Slots with a verdict, and all that the sweep wants."""
        counts = merge.counts(self.table)
        settled = counts[OK] + counts[INFEASIBLE] + counts[FAILED]
        return settled - merge.count_wanted_again(self.table), settled + counts[MISSING]


def published(home: Store) -> Snapshot:
    """The current table. Raises NotFound where no round has ended."""
    return Snapshot(tables.read_current(home)[0], published=True)


def so_far(home: Store, digest: str) -> Snapshot:
    """What the results in the store give of the plan `digest` by now. Raises as `engine.stored_plan`."""
    wanted = engine.stored_plan(home, digest)
    return Snapshot(merge.merge(wanted, engine.read_results(home)), published=False)


def take(home: Store, digest: str = "") -> Snapshot:
    """Of the plan `digest`, or, without one, the published table. Raises StoreError saying which is missing."""
    try:
        return so_far(home, digest) if digest else published(home)
    except NotFound as error:
        what = f"plan {digest[:12]}" if digest else "published table"
        raise StoreError(f"{home.url} holds no {what}", remedy=str(error)) from error


def to_lines(snapshot: Snapshot) -> Iterator[str]:
    """Text that survives other lines around it: a line of JSON with size and digest, then base64 of Parquet."""
    sink = io.BytesIO()
    pq.write_table(snapshot.table, sink, compression="zstd")
    data = sink.getvalue()
    head = {"published": snapshot.published, "sha256": hashlib.sha256(data).hexdigest()}
    text = base64.b64encode(data).decode()
    yield _BEGIN
    yield orjson.dumps(head).decode()
    yield from (text[start : start + _LINE] for start in range(0, len(text), _LINE))
    yield _END


def from_lines(lines: Iterable[str]) -> Snapshot:
    """What `to_lines` made. Raises ValueError where it is not there as a whole."""
    found = list(lines)
    if _BEGIN not in found:
        raise ValueError("there is no beginning of a table")
    inside = found[found.index(_BEGIN) + 1 :]
    if _END not in inside:
        raise ValueError("the table is cut short")
    head, *text = inside[: inside.index(_END)]
    try:
        facts = orjson.loads(head)
        data = base64.b64decode("".join(text), validate=True)
    except (orjson.JSONDecodeError, binascii.Error) as error:
        raise ValueError(f"the table is damaged: {error}") from error
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise ValueError("the table is damaged: its digest is another")
    return Snapshot(pq.read_table(io.BytesIO(data)), published=bool(facts["published"]))
