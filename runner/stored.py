"""A sweep's folder in the store, read back: its plans, its results, and where sweeps are.

What is damaged, too large or gone meanwhile is named and left out: what it held counts as not measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from runner import keys, plan, transfer
from runner.errors import BadInput, Problem, StoreError
from runner.plan import Plan
from runner.result import SEGMENT_BYTES, SEGMENT_SUFFIX
from runner.segments import Results, parse_segments
from runner.store import Listed, NotFound, Store, is_key, open_store

# sweeps/<cluster>/<namespace>/<name>/<run>
DEPTH = 5
TOP = "sweeps"
_PARTS = ("plans", "results", "tables")


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


def keep_plan(home: Store, made: Plan) -> None:
    """Write a plan as the sweep's newest. One that comes back (a sweep file edited to and fro) is written over
    itself: which plan is the newest is told by the date, which is so that of the last use."""
    home.put(plan.key(made.digest), made.data)


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
) -> Results:
    """All results of the sweep's run that the store holds: those below `folder`, or of these `segments`. `seen` is
    called with each segment's key once it was read."""
    segments = segments_in(home, folder) if segments is None else list(segments)
    # Not even fetched: no writer makes such ones, and one would take the memory of all.
    refused = {
        entry.key: f"has {entry.size_bytes:,} bytes, a segment at most {SEGMENT_BYTES:,}: it is not read"
        for entry in segments
        if entry.size_bytes > SEGMENT_BYTES
    }
    wanted = [entry.key for entry in segments if entry.key not in refused]
    read = parse_segments(still_there(home, wanted, refused, seen))
    return replace(read, damaged={**read.damaged, **refused})


def still_there(
    home: Store,
    wanted: Iterable[str],
    gone: dict[str, str],
    seen: Callable[[str], object] = lambda key: None,
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


def located(path: str) -> tuple[Store, list[str]]:
    """The store that `path` names or lies in, and the prefixes of the sweeps there that `path` holds.

    A path may have a `sweeps` that is none of a store's, before it or as a cluster's or a sweep's name: the first
    reading that finds a sweep is meant. Raises BadInput where it is no URL of a store.
    """
    opened = open_store(path)
    for above, below in (("", ""), *_above(path)):
        root = open_store(above) if above else opened
        if found := _sweeps(root, below):
            return root, found
    return opened, sweep_folders(opened)


def _above(path: str) -> Iterator[tuple[str, str]]:
    """Stores that `path` may lie in, and the prefix that it then has; the deepest first."""
    segments = path.rstrip("/").split("/")
    for at in reversed(range(len(segments))):
        above, below = "/".join(segments[:at]), "/".join(segments[at:])
        if segments[at] == TOP and is_key(below) and not above.endswith("/"):
            yield above or ("/" if at else "."), below


def sweep_folders(root: Store) -> list[str]:
    """Prefixes of `root` that hold a sweep's run, merged or not; "" where `root` is itself one's folder."""
    if found := _sweeps(root):
        return found
    names = root.folders()
    return [""] if TOP not in names and _is_a_sweep(names) else []


def _sweeps(root: Store, below: str = "") -> list[str]:
    """Only a prefix of exactly DEPTH segments is a sweep's: clusters and runs may be called `results`, too."""
    level = [below or TOP]
    for _ in range(DEPTH - level[0].count("/") - 1):
        level = [f"{at}/{name}" for at in level for name in root.folders(at)]
    return [at for at in level if at.count("/") == DEPTH - 1 and _is_a_sweep(root.folders(at))]


def _is_a_sweep(folders: Collection[str]) -> bool:
    return any(part in folders for part in _PARTS)
