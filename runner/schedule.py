"""What is built and measured next, and where: decided from what is ready and what runs, in the order of `ordering`.
Pure.

    exports -> compiles -> jobs of lots on cards

Whoever drives it (threads in `overlap`, a simulated clock in `benchmarks/replay`) asks for work whenever a
builder or a card is free and tells what ended. A job may begin as soon as its own binary is there, whatever
the rest of its lot still waits for. A card that began a lot is its home: rivals stay on one card. Others
help only where they would idle and the home is busy, so nobody works alone at the end.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple

from runner.ordering import ANY_CARD, J, Lot, builds_in_order, lots_in_order

# A compiler keeps two to three cores busy (the vendor's logs: 16 at once on 48 cores).
CORES_PER_COMPILER = 3
# The runner's threads and ours.
CORES_PER_CARD = 2
# Each may hold a network twice, in torch and as a graph.
EXPORTS_AT_ONCE = 2


class Builders(NamedTuple):
    """How many exports and compiles run at once, and whether beside measurements or before the first."""

    at_once: int
    beside: bool


def builders(cores: int, cards: int, *, may_share: bool) -> Builders:
    """As many as the host's cores allow. Beside measurements only where these leave cores for one, and
    where the host may be shared at all."""
    left = (cores - CORES_PER_CARD * cards) // CORES_PER_COMPILER
    if may_share and left >= 1:
        return Builders(left, beside=True)
    return Builders(max(1, cores // CORES_PER_COMPILER), beside=False)


class Build(NamedTuple):
    """An export or a compile to begin. `alone`: nothing is built beside it, since others took its memory or since
    it may end the process."""

    kind: str
    id: str
    alone: bool = False


EXPORT: Final = "export"
COMPILE: Final = "compile"


@dataclass
class _Lot(Generic[J]):
    """`ready` is a heap of positions in `jobs`."""

    rank: int
    number: int
    jobs: Sequence[J]
    card: str
    ready: list[int] = field(default_factory=list)
    home: str = ""


class Schedule(Generic[J]):
    """The state of one round. `compile_s` estimates the seconds of a job's compile; without builders
    everything is made already. Exports and binaries in `alone` are built by themselves, after the others."""

    def __init__(
        self,
        lots: Iterable[Lot[J]],
        cards: Sequence[str],
        builders: Builders | None = None,
        compile_s: Callable[[J], float] = lambda job: 0.0,
        alone: Collection[str] = (),
    ) -> None:
        lots = list(lots)
        self._beside = builders is None or builders.beside
        self._free_builders = builders.at_once if builders else 0
        self._exporting = self._compiling = 0
        self._alone_runs = False
        self._stopped = False
        lots = lots_in_order(lots, max(1, len(cards)), max(1, self._free_builders), compile_s)
        self._lots = [_Lot(rank, lot.number, lot.jobs, lot.card) for rank, lot in enumerate(lots)]
        self._left = dict.fromkeys([ANY_CARD, *cards], 0)
        # Where each binary's jobs are; where there are no binaries, each export's.
        self._places: dict[str, list[tuple[_Lot[J], int]]] = defaultdict(list)
        for lot in self._lots:
            self._left[lot.card] = self._left.get(lot.card, 0) + len(lot.jobs)
            for position, job in enumerate(lot.jobs):
                self._places[job.binary or job.export].append((lot, position))
        self._idle: set[str] = set()
        self._current: dict[str, _Lot[J]] = {}
        # Heaps of the ranks of lots with something ready: nobody's, and those a card began or owns.
        self._fresh: list[int] = []
        self._mine: dict[str, list[int]] = {card: [] for card in cards}
        # Begun lots with something ready.
        self._begun: dict[int, _Lot[J]] = {}
        # Heaps of what may be built now, by rank.
        self._exports: list[tuple[int, str]] = []
        self._compiles: list[tuple[int, str]] = []
        # What is built by itself, and of that what may be now.
        self._lonely = frozenset(alone)
        self._alone: list[tuple[str, str]] = []
        self._unsettled = 0
        self._binaries_of: dict[str, list[tuple[int, str]]] = {}
        if builders is None:
            for made in self._places:
                self._settle(made)
        else:
            self._plan_builds(compile_s, max(1, len(cards)), builders.at_once)

    # -- builders ask and tell

    def next_build(self) -> Build | None:
        """What a free builder begins now, if anything."""
        if self._stopped or not self._free_builders or self._alone_runs:
            return None
        exports = self._exports if self._exporting < EXPORTS_AT_ONCE else []
        kind, heap = EXPORT, exports
        if self._compiles and (not exports or self._compiles[0] < exports[0]):
            kind, heap = COMPILE, self._compiles
        if heap:
            build = Build(kind, heapq.heappop(heap)[1])
        elif self._alone and not self._exporting and not self._compiling and not self._exports:
            build = Build(*self._alone.pop(0), alone=True)
            self._alone_runs = True
        else:
            return None
        self._free_builders -= 1
        self._exporting += build.kind == EXPORT
        self._compiling += build.kind == COMPILE
        return build

    def built(self, build: Build, *, there: bool = True, again_alone: bool = False) -> None:
        """A build ended; `there`: an export that its binaries can be compiled from. What needs it, or can't have
        it, may begin; `again_alone`: it is to be tried once more before."""
        self._free_builders += 1
        self._alone_runs = False
        self._exporting -= build.kind == EXPORT
        self._compiling -= build.kind == COMPILE
        if again_alone and not build.alone:
            self._alone.append((build.kind, build.id))
            return
        self._unsettled -= 1
        if build.kind == EXPORT:
            following = self._binaries_of.pop(build.id)
            for rank, binary in following:
                if binary == build.id:
                    self._settle(binary)
                elif there and binary in self._lonely:
                    self._alone.append((COMPILE, binary))
                elif there:
                    heapq.heappush(self._compiles, (rank, binary))
                else:
                    self._unsettled -= 1
                    self._settle(binary)
        else:
            self._settle(build.id)

    @property
    def building(self) -> int:
        """How many builds run."""
        return self._exporting + self._compiling

    @property
    def all_built(self) -> bool:
        """Whether no build will begin any more."""
        return self._stopped or not (self._unsettled or self.building)

    # -- cards ask

    def next_job(self, card: str) -> tuple[int, J] | None:
        """The lot and job that a card, which has ended its last one, begins now, if any."""
        if not self.ready_for(card):
            return None
        lot = self._lot_for(card)
        assert lot is not None
        self._idle.discard(card)
        if not lot.home:
            heapq.heappop(self._fresh)
            lot.home = card
            self._begun[lot.rank] = lot
            heapq.heappush(self._mine[card], lot.rank)
        self._current[card] = lot
        position = _next_in(lot, card)
        if lot.ready[0] == position:
            heapq.heappop(lot.ready)
        else:
            lot.ready.pop()
        if not lot.ready:
            self._begun.pop(lot.rank, None)
        self._left[lot.card] -= 1
        return lot.number, lot.jobs[position]

    def ready_for(self, card: str) -> bool:
        """Whether `next_job` would give the card one now."""
        if self._lot_for(card) is not None:
            return True
        self._idle.add(card)
        return False

    def following(self, card: str) -> J | None:
        """What the card would begin now, were it free: most likely its next, to be fetched meanwhile."""
        lot = self._lot_for(card)
        return lot.jobs[_next_in(lot, card)] if lot else None

    def over(self, card: str) -> bool:
        """Whether no job will come for a card any more."""
        return self._stopped or not (self._left[ANY_CARD] or self._left.get(card))

    def give_up(self, card: str) -> None:
        """A card takes nothing more. It is not waited for: others help with what it began."""
        self._idle.discard(card)
        self._current.pop(card, None)

    def stop(self) -> None:
        """Nothing further begins."""
        self._stopped = True

    # -- how it is decided

    def _lot_for(self, card: str) -> _Lot[J] | None:
        if self._stopped or not (self._beside or not self._unsettled):
            return None
        lot = self._current.get(card)
        if lot and lot.ready and lot.home == card:
            return lot
        first = self._first(self._mine[card]) or self._first(self._fresh)
        if first is not None:
            return first
        if lot and lot.ready and lot.home not in self._idle:
            return lot
        busy = [
            each for each in self._begun.values() if each.card == ANY_CARD and each.home not in self._idle
        ]
        return max(busy, key=lambda each: (len(each.ready), -each.rank), default=None)

    def _first(self, ranks: list[int]) -> _Lot[J] | None:
        """The first lot of a heap that still has something ready; those that have not leave it."""
        while ranks:
            lot = self._lots[ranks[0]]
            if lot.ready:
                return lot
            heapq.heappop(ranks)
        return None

    def _settle(self, made: str) -> None:
        """The jobs that waited for it are ready."""
        for lot, position in self._places[made]:
            heapq.heappush(lot.ready, position)
            if len(lot.ready) > 1:
                continue
            if lot.card != ANY_CARD:
                lot.home = lot.card
            if lot.home:
                self._begun[lot.rank] = lot
                if lot.home in self._mine:
                    heapq.heappush(self._mine[lot.home], lot.rank)
            else:
                heapq.heappush(self._fresh, lot.rank)

    def _plan_builds(self, compile_s: Callable[[J], float], cards: int, count: int) -> None:
        needed = {
            made: (places[0][0].rank, [lot.jobs[position] for lot, position in places])
            for made, places in self._places.items()
        }
        for rank, made in enumerate(builds_in_order(needed, cards, count, compile_s)):
            self._binaries_of.setdefault(made.export, []).append((rank, made.id))
            self._unsettled += made.id != made.export
        self._unsettled += len(self._binaries_of)
        for export, binaries in self._binaries_of.items():
            if export in self._lonely:
                self._alone.append((EXPORT, export))
            else:
                self._exports.append((binaries[0][0], export))
        heapq.heapify(self._exports)


def _next_in(lot: _Lot[J], card: str) -> int:
    """The position of the job that the card takes of it. A helper takes from the other end, where the home comes
    last."""
    return lot.ready[0] if lot.home in ("", card) else lot.ready[-1]
