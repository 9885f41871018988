"""In which order lots are worked on and things are built, on estimates. Pure.

Two stages, builders and cards, end soonest by Johnson's rule; several builders end together only if what is left
for the end is short.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

ANY_CARD = ""
# Builds that each builder has left when lots do not matter any more.
LAST_BUILDS = 2


class Job(Protocol):
    """One measurement: ids of the export and of the binary it needs (no binary where the target compiles), and
    the seconds it is estimated to take. A task of a plan is one."""

    @property
    def export(self) -> str: ...
    @property
    def binary(self) -> str: ...
    @property
    def estimate_s(self) -> float: ...


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Lot(Generic[J]):
    """Jobs that belong together, in order. `card`: the only one that may measure them. `urgent`: before lots
    that are not."""

    number: int
    jobs: Sequence[J]
    card: str = ANY_CARD
    urgent: bool = False


def lots_in_order(
    lots: Sequence[Lot[J]], cards: int, builders: int, compile_s: Callable[[J], float]
) -> list[Lot[J]]:
    """Urgent lots first, then by Johnson's rule, else as they came."""

    def key(lot: Lot[J]) -> tuple[bool, tuple[int, float]]:
        distinct = {job.binary: job for job in lot.jobs if job.binary}
        build_s = sum(compile_s(job) for job in distinct.values())
        measure_s = sum(job.estimate_s for job in lot.jobs)
        return not lot.urgent, _johnson(build_s / builders, measure_s / cards)

    return sorted(lots, key=key)


class Made(NamedTuple):
    """Something to build: its id, and that of its export, which may be all there is to it."""

    id: str
    export: str


def builds_in_order(
    needed: Mapping[str, tuple[int, Collection[J]]],
    cards: int,
    builders: int,
    compile_s: Callable[[J], float],
) -> list[Made]:
    """What is `needed` for jobs, by id with the place of the first lot that needs it: lot after lot, within one by
    Johnson's rule. The last of all by their length alone: a lot that ends with a long build would keep one builder
    busy while the others are done."""
    ordered = []
    for made, (place, jobs) in needed.items():
        job = next(iter(jobs))
        build_s, measure_s = compile_s(job), sum(job.estimate_s for job in jobs)
        key = place, _johnson(build_s / builders, measure_s / cards)
        ordered.append((key, build_s, Made(made, job.export)))
    ordered.sort(key=lambda one: one[0])
    # Never the first half, in which cards are to begin and the canary is.
    last = len(ordered) - min(LAST_BUILDS * builders, len(ordered) // 2)
    return [made for _, _, made in (*ordered[:last], *sorted(ordered[last:], key=lambda one: -one[1]))]


def _johnson(build_s: float, measure_s: float) -> tuple[int, float]:
    """The order that ends two stages soonest (Johnson 1954; exact for one machine each): first what is built
    faster than it is measured, the quickest to build before, so that cards begin early. The rest by the
    longest chain."""
    return (0, build_s) if build_s < measure_s else (1, -(build_s + measure_s))
