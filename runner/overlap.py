"""A schedule that threads share: builders and cards wait here until there is something for them to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic

from runner.ordering import J
from runner.schedule import Build, Schedule

# While a card waits, what it measured is kept at least so often.
WAIT_S = 1.0


class Board(Generic[J]):
    """`schedule` behind a lock. What ends or is taken wakes those that wait."""

    def __init__(self, schedule: Schedule[J]) -> None:
        self._schedule = schedule
        self._news = threading.Condition()
        self._waiting = 0

    def next_build(self) -> Build | None:
        """Wait for something to build; None once there will be nothing more."""
        with self._news:
            while (build := self._schedule.next_build()) is None and not self._schedule.all_built:
                self._wait()
            return build

    def built(self, build: Build, *, there: bool = True, again_alone: bool = False) -> None:
        with self._news:
            self._schedule.built(build, there=there, again_alone=again_alone)
            self._news.notify_all()

    @property
    def building(self) -> bool:
        """Whether something is being built."""
        with self._news:
            return self._schedule.building > 0

    def wait_for_builds(self) -> None:
        """Until everything is built, or nothing will be any more."""
        with self._news:
            while not self._schedule.all_built:
                self._wait()

    def wait_for_job(self, card: str) -> bool:
        """Until a card can begin (True) or nothing will come for it any more (False)."""
        with self._news:
            while not (ready := self._schedule.ready_for(card)) and not self._schedule.over(card):
                self._wait()
            return ready

    def next_job(self, card: str, meanwhile: Callable[[], None] = lambda: None) -> tuple[int, J] | None:
        """Wait for a card's next job, with its lot; None once there will be no more. `meanwhile` is called now and
        then, by the thread that waits."""
        while True:
            with self._news:
                found = self._schedule.next_job(card)
                if found is not None or self._schedule.over(card):
                    if self._waiting:
                        self._news.notify_all()
                    return found
                self._wait()
            meanwhile()

    def following(self, card: str) -> J | None:
        with self._news:
            return self._schedule.following(card)

    def give_up(self, card: str) -> None:
        with self._news:
            self._schedule.give_up(card)
            self._news.notify_all()

    def stop(self) -> None:
        """Nothing further begins, and nobody waits."""
        with self._news:
            self._schedule.stop()
            self._news.notify_all()

    def _wait(self) -> None:
        self._waiting += 1
        try:
            self._news.wait(WAIT_S)
        finally:
            self._waiting -= 1
