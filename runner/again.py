"""What is to be measured again: requests, each settled once in the store with the slots that it chose.

    spec.again --`settle`--> again/<epoch>.json --`epochs`--> merge.past_of, plan: since when a slot's results count

A request chooses among the slots that have a verdict by then, and from then on each of them is wanted until it
has one of that epoch or a later one. Nothing is deleted: older results are kept, and shown until then. To take a
request back, delete its object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner import transfer
from runner.errors import BadInput, Problem, StoreError
from runner.keys import canonical
from runner.merge import TABLE_COLUMNS
from runner.result import FAILED, INFEASIBLE, OK
from runner.spec import Again
from runner.store import Store
from runner.where import checked, rows_where

SCHEMA: Literal[1] = 1
FOLDER = "again"
# Who loses an epoch to another takes the next; on S3 it may also be that of a write that failed later.
_TRIES, _PAUSE_S = 20, 0.5


class Request(BaseModel):
    """One that is settled: `slots`, sorted, are wanted in `epoch`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_number: Literal[1] = SCHEMA
    epoch: Annotated[int, Field(ge=1)]
    id: str
    where: str
    chosen_at: str
    slots: tuple[str, ...]


def asked(where: str, now: datetime) -> Again:
    """A request as command lines make it, named after the moment. Raises BadInput for a condition that no table
    can answer."""
    checked(where, TABLE_COLUMNS)
    return Again(id=now.astimezone(UTC).strftime("%Y-%m-%dT%H.%M.%S.%fZ"), where=where)


def read(home: Store) -> list[Request]:
    """The requests of a sweep's run, oldest first. Raises StoreError for one that can't be understood."""
    found = [
        _parsed(home, key, data)
        for key, data in transfer.get_many(home, (each.key for each in home.list(FOLDER)))
    ]
    return sorted(found, key=lambda request: request.epoch)


def epochs(requests: Sequence[Request]) -> dict[str, int]:
    """Of each slot that was ever chosen, the newest epoch it was chosen for."""
    return {slot: request.epoch for request in requests for slot in request.slots}


class Settled(NamedTuple):
    """Requests, oldest first: all of a sweep's run, and those of them that have chosen just now."""

    every: Sequence[Request]
    new: Sequence[Request]


def settle(home: Store, wanted: Sequence[Again], table: Callable[[], pa.Table], newest: int) -> Settled:
    """Let those of `wanted` that have not chosen yet do so in `table`, the sweep's table by now. `newest` is the
    highest epoch of any result: also that of a request that was taken back is not given a second time. Raises
    BadInput with their place in the sweep, StoreError.
    """
    before = known = read(home)
    for number, ask in enumerate(wanted):
        if not _is_known(ask, known, number):
            slots = _chosen(table(), ask.where, number)
            known = _written(home, ask, slots, known, newest)
    return Settled(known, [request for request in known if request not in before])


def _is_known(ask: Again, known: Sequence[Request], number: int) -> bool:
    same = next((request for request in known if request.id == ask.id), None)
    if same is not None and same.where != ask.where:
        message = f"{ask.id!r} was used before, for: {same.where}"
        raise BadInput([Problem(f"spec.again[{number}].id", message, "give the request an id of its own")])
    return same is not None


def _chosen(table: pa.Table, where: str, number: int) -> tuple[str, ...]:
    rows = rows_where(table, where, f"spec.again[{number}].where")
    # What has no verdict yet is wanted anyway, and what does not fit can't be.
    settled = pc.is_in(rows["status"].cast(pa.string()), pa.array([OK, FAILED, INFEASIBLE]))
    return tuple(sorted(set(rows["slot"].filter(settled).to_pylist())))


def _written(
    home: Store, ask: Again, slots: tuple[str, ...], known: Sequence[Request], newest: int
) -> list[Request]:
    for _ in range(_TRIES):
        request = Request(
            epoch=max([newest, *(each.epoch for each in known)]) + 1,
            id=ask.id,
            where=ask.where,
            chosen_at=datetime.now(UTC).isoformat(timespec="seconds"),
            slots=slots,
        )
        if home.put_new(_key(request.epoch), canonical(request.model_dump())):
            return [*known, request]
        known = read(home)
        if any(each.id == ask.id for each in known):
            # By another who works on the sweep; or by us, and the answer was lost.
            return list(known)
        time.sleep(_PAUSE_S)
    raise StoreError(f"{home.url}/{_key(request.epoch)} can't be written: it is taken, yet not there")


def _key(epoch: int) -> str:
    return f"{FOLDER}/{epoch:05d}.json"


def _parsed(home: Store, key: str, data: bytes) -> Request:
    try:
        request = Request.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{home.url}/{key} can't be understood ({field or 'JSON'}: {first['msg']})",
            remedy="Was it written by a newer aicsweep? Without it, what it asked for is not measured again.",
        ) from error
    if key != _key(request.epoch):
        raise StoreError(f"{home.url}/{key} is that of epoch {request.epoch}")
    return request
