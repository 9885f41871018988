"""Drives a schedule by a simulated clock: what the engine's threads do, in no time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple

from runner.ordering import J
from runner.schedule import Build, Schedule


class Span(NamedTuple):
    """From when to when something ran, in seconds, on which card (`""`: a builder)."""

    began: float
    ended: float
    card: str
    what: object


@dataclass
class Played(Generic[J]):
    """Everything that ran: builds, and jobs with their lots."""

    builds: list[Span] = field(default_factory=list)
    jobs: list[Span] = field(default_factory=list)

    @property
    def makespan_s(self) -> float:
        return max((span.ended for span in (*self.builds, *self.jobs)), default=0.0)


def play(
    schedule: Schedule[J],
    cards: Sequence[str],
    build_s: Callable[[Build], float],
    job_s: Callable[[J], float],
    ends: Callable[[Build], dict[str, bool]] = lambda build: {},
) -> Played[J]:
    """Run a schedule to its end. `build_s` and `job_s` say how long things take, `ends` how a build ended (see
    `Schedule.built`)."""
    played: Played[J] = Played()
    now, number = 0.0, 0
    running: list[tuple[float, int, str, Build | None]] = []
    free = list(cards)
    while True:
        while (build := schedule.next_build()) is not None:
            number += 1
            heapq.heappush(running, (now + build_s(build), number, "", build))
            played.builds.append(Span(now, now + build_s(build), "", build))
        # One that takes something may leave the rest to others, who were told to wait.
        busy = True
        while busy:
            busy = False
            for card in list(free):
                found = schedule.next_job(card)
                if found is not None:
                    busy = True
                    free.remove(card)
                    number += 1
                    heapq.heappush(running, (now + job_s(found[1]), number, card, None))
                    played.jobs.append(Span(now, now + job_s(found[1]), card, found))
        if not running:
            return played
        now, _, card, ended = heapq.heappop(running)
        if ended is None:
            free.append(card)
        else:
            schedule.built(ended, **ends(ended))
