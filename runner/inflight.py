"""Markers of what is in flight, so that what kills its pod is known and not tried for ever.

    inflight/<plan>/<work>/<pod>.begun      at the start of every attempt
    inflight/<plan>/<work>/<pod>.ended      in order, but not at once or not with success
    inflight/<plan>/<work>/<item>/<pod>     before each item, once an earlier attempt has died
    inflight/<plan>/<work>/<item>/<pod>.done    and after it

Work is a lot (`00012`), a compile or an export task (`compile-00012`, `export-00003`); its items are
slots, binaries, exports. An undisturbed attempt costs a list and a write. From the second on the
order is: first what nobody died with, so that it is done and kept, then the suspects.

    inflight/here/<item>/<writer>           a run on this machine died with it

`aicsweep run` keeps what is in flight in a local file (`journal`); the next run finds it and leaves the
markers, so that two deaths are enough. See docs/adr/0011.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from runner.errors import AicsweepError, Interrupted, PointFailed, StoreError
from runner.journal import Journal, left_behind
from runner.journal import begin as begin_journal
from runner.result import KILLED
from runner.store import Store

# In place of a plan, for attempts of `aicsweep run`: each plans anew.
HERE = "here"
# An item that so many pods died with is not tried again.
DEATHS = 2

BEGUN, ENDED, DONE = ".begun", ".ended", ".done"

T = TypeVar("T")


@dataclass(frozen=True)
class Attempt:
    """One try at a piece of work: a pod's, or with a `journal` a run's on this machine. Without a store it is
    the only one."""

    store: Store | None = None
    pod: str = ""
    # Pods that tried before, those of them that died, and per item all that ended with it in flight.
    earlier: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)
    journal: Journal | None = None

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        in_order = error is None or isinstance(error, AicsweepError | KeyboardInterrupt)
        if self.journal is not None:
            self.journal.remove()
        elif self.store is not None and in_order and (error or self.careful):
            # Without it we count as one that died, which by itself condemns nothing.
            with contextlib.suppress(StoreError):
                self._put(self.pod + ENDED)

    @property
    def careful(self) -> bool:
        """An attempt died before: mark each item, keep each result at once. A journal needs neither."""
        return bool(self.dead) and self.journal is None

    def deaths(self, item: str) -> int:
        """How many pods died with the item in flight."""
        return len(self.seen.get(item, frozenset()) & self.dead)

    def verdict(self, item: str, stage: str) -> PointFailed | None:
        """The item's failure if enough pods died with it."""
        who = "pods" if self.journal is None else "runs"
        return killed(stage, self.deaths(item), who) if self.deaths(item) >= DEATHS else None

    def in_order(self, items: Sequence[T], name: Callable[[T], str]) -> list[T]:
        """What was in flight when an attempt ended comes last."""
        return sorted(items, key=lambda item: len(self.seen.get(name(item), ())))

    @contextlib.contextmanager
    def flying(self, item: str) -> Iterator[None]:
        """The item is in flight: if we die meanwhile, or are asked to end, the next attempt knows."""
        if self.journal is not None:
            with self.journal.noted(item):
                yield
            return
        if self.careful:
            self._put(f"{item}/{self.pod}")
        try:
            yield
        except (KeyboardInterrupt, Interrupted):
            if not self.careful:
                self._put(f"{item}/{self.pod}")
            raise
        except PointFailed:
            self._landed(item)
            raise
        self._landed(item)

    def _landed(self, item: str) -> None:
        """Whatever came of it, we live."""
        if self.careful:
            self._put(f"{item}/{self.pod}{DONE}")

    def _put(self, marker: str) -> None:
        if self.store is not None:
            self.store.put_new(marker, b"")


def begin(home: Store, plan: str, work: str, pod: str) -> Attempt:
    """Begin an attempt at `work` of `plan`; knows what earlier ones left."""
    store = home.at(f"inflight/{plan}/{work}")
    begun, dead, seen = _read((entry.key for entry in store.list()), pod)
    store.put_new(pod + BEGUN, b"")
    return Attempt(store, pod, begun, dead, seen)


def here(home: Store, writer: str, folder: Path) -> Attempt:
    """Begin a run on this machine, whose journals are in the local `folder`; knows what earlier ones died with.
    Raises OSError where no journal can be kept."""
    store = home.at(f"inflight/{HERE}")
    for dead, items in left_behind(folder, home.url):
        for item in items:
            store.put_new(f"{item}/{dead}", b"")
    _, _, seen = _read((entry.key for entry in store.list()), writer)
    dead_ones = frozenset(itertools.chain.from_iterable(seen.values()))
    return Attempt(store, writer, dead_ones, dead_ones, seen, begin_journal(folder, writer, home.url))


def deadly(home: Store, plan: str) -> dict[str, int]:
    """Items of a plan that enough pods died with, and how many. For when all its pods have ended."""
    works: dict[str, list[str]] = defaultdict(list)
    for entry in home.list(f"inflight/{plan}"):
        work, _, name = entry.key.removeprefix(f"inflight/{plan}/").partition("/")
        works[work].append(name)
    found: dict[str, int] = {}
    for names in works.values():
        _, dead, seen = _read(names, "")
        deaths = {item: len(pods & dead) for item, pods in seen.items()}
        found.update({item: count for item, count in deaths.items() if count >= DEATHS})
    return found


def killed(stage: str, deaths: int, who: str = "pods") -> PointFailed:
    """The verdict on what pods, or runs on one machine, died with."""
    message = f"{deaths} {who} that worked on it were killed"
    return PointFailed(stage, KILLED, message, remedy=f"more memory for the {who}, or leave the point out")


def _read(
    names: Iterable[str], me: str
) -> tuple[frozenset[str], frozenset[str], Mapping[str, frozenset[str]]]:
    """Pods other than `me` that began, those of them that died, and per item the pods that ended with it."""
    begun, ended = set(), set()
    seen: dict[str, set[str]] = defaultdict(set)
    done: set[tuple[str, str]] = set()
    for name in names:
        item, _, pod = name.rpartition("/")
        if item and pod.endswith(DONE):
            done.add((item, pod.removesuffix(DONE)))
        elif item:
            seen[item].add(pod)
        elif name.endswith(BEGUN):
            begun.add(name.removesuffix(BEGUN))
        elif name.endswith(ENDED):
            ended.add(name.removesuffix(ENDED))
    for item, pod in done:
        seen[item].discard(pod)
    begun.discard(me)
    in_flight = {item: frozenset(pods) for item, pods in seen.items() if pods}
    return frozenset(begun), frozenset(begun - ended), in_flight
