"""A sweep's folder in the store, read back: its plans, its results, and where sweeps are.

What is damaged, too large or gone meanwhile is named and left out: what it held counts as not measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from runner import keys, merge, plan, transfer
from runner.errors import BadInput, Problem, StoreError
from runner.plan import Plan
from runner.result import SEGMENT_BYTES, SEGMENT_SUFFIX
from runner.store import Listed, NotFound, Store, open_store

# sweeps/<cluster>/<namespace>/<name>/<run>
DEPTH = 5
TOP = "sweeps"
_PARTS = ("plans", "results")


def stored_plan(home: Store, digest: str) -> Plan:
    """A plan that was written before. Raises NotFound, StoreError where it is damaged, and BadInput where only
    another version of aicsweep reads it."""
    where = plan.key(digest)
    data = home.get(where)
    if (found := keys.digest_bytes(data)[: keys.ID_HEX_DIGITS]) != digest:
        raise StoreError(f"{home.url}/{where} is damaged: its digest is {found}")
    try:
        return plan.read_plan(data)
    except ValueError as error:
        remedy = "use the version, in a cluster the image, that made it"
        raise BadInput([Problem(f"{home.url}/{where}", str(error), remedy)]) from error


def plans_of(home: Store) -> Mapping[str, Listed]:
    """Plans of a sweep's run by digest; the newest ones are those of the latest date."""
    return {entry.key.removeprefix("plans/").removesuffix(".parquet"): entry for entry in home.list("plans")}


def newest_plan(home: Store) -> Plan:
    """The plan that was used last; S3 dates to the second, and of several in one it is that of the latest round.
    Raises StoreError where there is none, and as `stored_plan`."""
    plans = plans_of(home)
    if not plans:
        raise StoreError(
            f"{home.url} holds no plan", remedy="Was it deleted? `aicsweep run FILE` makes one anew."
        )
    latest = max(entry.modified for entry in plans.values())
    found = [stored_plan(home, digest) for digest, entry in plans.items() if entry.modified == latest]
    return max(found, key=lambda made: made.round)


def segments_in(home: Store, folder: str = "results") -> list[Listed]:
    """The segments below `folder`, unread."""
    return [entry for entry in home.list(folder) if entry.key.endswith(SEGMENT_SUFFIX)]


def read_results(
    home: Store,
    folder: str = "results",
    *,
    segments: Iterable[Listed] | None = None,
    seen: Callable[[str], object] = lambda key: None,
) -> merge.Results:
    """All results of the sweep's run that the store holds: those below `folder`, or of these `segments`. `seen` is
    called with each segment's key once it was read."""
    segments = segments_in(home, folder) if segments is None else list(segments)
    # Not even fetched: no writer makes such ones, and one would take the memory of all.
    refused = {
        entry.key: f"has {entry.size_bytes:,} bytes, a segment at most {SEGMENT_BYTES:,}: it is not read"
        for entry in segments
        if entry.size_bytes > SEGMENT_BYTES
    }
    read = merge.read_results(
        _there(home, [entry.key for entry in segments if entry.key not in refused], refused, seen)
    )
    return replace(read, damaged={**read.damaged, **refused})


def _there(
    home: Store, wanted: Iterable[str], gone: dict[str, str], seen: Callable[[str], object]
) -> Iterator[tuple[str, bytes]]:
    """Keys and bytes; who was deleted since it was listed is put into `gone`."""
    waiting = deque(wanted)
    while waiting:
        try:
            for key, data in transfer.get_many(home, list(waiting)):
                waiting.popleft()
                seen(key)
                yield key, data
        except NotFound:
            gone[waiting.popleft()] = "was deleted while the results were read"


def located(path: str) -> tuple[Store, str]:
    """The store that `path` names or lies in, and the prefix of the sweep's folder in it ("": all sweeps).
    Raises BadInput where it is no URL of a store."""
    above, found, below = path.rstrip("/").rpartition(f"/{TOP}/")
    return (open_store(above), f"{TOP}/{below}") if found else (open_store(path), "")


def sweep_folders(root: Store, below: str = "") -> list[str]:
    """Prefixes of `root`, at or below `below`, that hold plans or results of a sweep's run, merged or not."""
    found: list[str] = []
    level = [below]
    for depth in range(DEPTH + 1):
        deeper: list[str] = []
        for at in level:
            names = root.folders(at)
            if any(part in names for part in _PARTS):
                found.append(at)
            elif not at and TOP in names:
                deeper.append(TOP)
            elif depth < DEPTH:
                deeper += [f"{at}/{name}" if at else name for name in names]
        level = deeper
    return found
