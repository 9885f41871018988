"""How long a store that is away is waited for, and when it is asked again.

    store --`ask`--> obstore, a few quick tries of its own --(Away)--> pause, all threads together --> again

A store that has answered is worth waiting for: a run of days outlives one that is restarted or mended. One that
never did is more likely named wrongly. obstore doesn't show Retry-After, so each pause begins with one request by
boto3 that does; else pauses grow, with jitter, so that the pods of a fleet don't come back all at once.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from runner import process
from runner.store_errors import Away, Expired, NotFound

T = TypeVar("T")

# Until a store has answered for the first time, and once this process was asked to end (a pod has 90 s).
UNKNOWN_S = 60.0
ENDING_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 20.0
# Of what a store may ask for by Retry-After.
LONGEST_TOLD_S = 120.0


def pause_s(tries: int, told_s: float, random_: float) -> float:
    """Seconds to wait after so many failed tries (from 1); `told_s` is what Retry-After says, `random_` in [0, 1)."""
    grown_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 16)) * (0.5 + random_ / 2)
    return max(grown_s, min(told_s, LONGEST_TOLD_S) * (1 + random_ / 10))


@dataclass
class Patience:
    """Of one place. `told_s` asks it once more for its Retry-After (0: none), `renew` looks for other
    credentials; `say` is told when waiting begins and when it is over, and may be set later."""

    limit_s: float
    told_s: Callable[[], float]
    renew: Callable[[], None]
    say: Callable[[str], object] | None = None
    _answered: bool = field(default=False, init=False)
    # When the place may be asked again, by the monotonic clock; and since when it is away, or None.
    _again_at_s: float = field(default=0.0, init=False)
    _away_since_s: float | None = field(default=None, init=False)
    # When it was first seen that this process was asked to end: an outage may be older than what is left of it.
    _ending_since_s: float | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def ask(self, work: Callable[[], T], *, waiting: bool = True) -> T:
        """What `work` returns; it is repeated where it raises Away, up to the limit, then raises it. Without
        `waiting` it is asked once."""
        began_s, tries = time.monotonic(), 0
        while True:
            try:
                found = work()
            except Away as error:
                # A first answer that refuses the credentials is no outage.
                if not waiting or (isinstance(error, Expired) and not self._answered):
                    raise
                tries += 1
                if not self._wait(error, tries, began_s):
                    raise
            except NotFound:
                self._is_there()
                raise
            else:
                self._is_there()
                return found

    def _limit_s(self) -> float:
        if process.stopping.is_set():
            return ENDING_S
        return self.limit_s if self._answered else min(UNKNOWN_S, self.limit_s)

    def _is_over(self, began_s: float) -> bool:
        """Whether what began then was tried for long enough."""
        now_s = time.monotonic()
        if process.stopping.is_set():
            if self._ending_since_s is None:
                self._ending_since_s = now_s
            began_s = max(began_s, self._ending_since_s)
        return now_s - began_s >= self._limit_s()

    def _wait(self, error: Away, tries: int, began_s: float) -> bool:
        """Pause before the next try; False if there is none."""
        with self._lock:
            if self._is_over(began_s):
                return False
            now_s = time.monotonic()
            if self._away_since_s is None:
                self._away_since_s = now_s
                self._tell(f"{error.message}; trying for up to {_words(self._limit_s())}")
            if isinstance(error, Expired):
                self.renew()
            if now_s >= self._again_at_s:
                self._again_at_s = now_s + pause_s(tries, self.told_s(), random.random())
        while (left_s := self._again_at_s - time.monotonic()) > 0:
            time.sleep(min(left_s, process.POLL_S))
            if self._is_over(began_s):
                return False
        return True

    def _is_there(self) -> None:
        self._answered = True
        if self._away_since_s is not None:
            with self._lock:
                since_s, self._away_since_s = self._away_since_s, None
            if since_s is not None:
                self._tell(f"the store answers again, after {time.monotonic() - since_s:.0f} s")

    def _tell(self, text: str) -> None:
        if self.say is not None:
            self.say(text)


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
