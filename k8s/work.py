"""The keyed queue between what changes and what is done about it.

    watch --add(key)--> Queue --> `work` (several at once) --> reconcile(key)
                          ^------ again later: asked for by the pass, or after its failure

A key is in the line once, however often it was added, and is never worked on twice at once: what is added
meanwhile gets its turn afterwards, at the end of the line, so no key holds up the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from k8s.watch import Key
from runner.errors import AicsweepError

log = logging.getLogger(__name__)

# (result, seconds in the line, seconds of the pass) of every pass.
OnPass = Callable[[str, float, float], None]

_RETRY_S = 0.5
_MAX_RETRY_S = 60.0


class Queue:
    """Keys that want a look. Not for more than one event loop."""

    def __init__(self) -> None:
        # Key -> when it was added first, of `time.monotonic`; in the order of the line.
        self._line: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: dict[Key, float] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._some = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Keys in the line, those worked on not counted."""
        return len(self._line) + len(self._again)

    def add(self, key: Key) -> None:
        """Now, whatever was planned for later: an event may be just what a failed pass waits for."""
        waiting = self._again if key in self._working else self._line
        waiting.setdefault(key, time.monotonic())
        self._some.set()

    def add_after(self, key: Key, wait_s: float) -> None:
        """Later, in place of what was planned for this key."""
        self._forget_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_later(wait_s, self.add, key)

    async def get(self) -> tuple[Key, float] | None:
        """The key that waited longest, and how long; `done` must follow. None once the queue is closed."""
        while not self._line and not self._closed:
            self._some.clear()
            await self._some.wait()
        if self._closed:
            return None
        key = next(iter(self._line))
        added_at = self._line.pop(key)
        self._working.add(key)
        self._forget_timer(key)
        return key, time.monotonic() - added_at

    def done(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._again:
            self._line.setdefault(key, self._again.pop(key))
            self._some.set()

    def succeeded(self, key: Key) -> None:
        self._failures.pop(key, None)

    def failed(self, key: Key, *, at_least_s: float = 0.0) -> float:
        """Adds it again after a while that doubles with each failure in a row. Returns the while."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        limit_s = min(_MAX_RETRY_S, _RETRY_S * 2 ** min(failures, 16))
        wait_s = at_least_s + random.uniform(limit_s / 2, limit_s)
        self.add_after(key, wait_s)
        return wait_s

    def clear(self) -> None:
        """Forgets what waits and what is planned, not what is worked on."""
        for key in list(self._timers):
            self._forget_timer(key)
        self._line.clear()
        self._again.clear()
        self._failures.clear()

    def close(self) -> None:
        """No key is handed out any more."""
        self._closed = True
        self._some.set()

    def _forget_timer(self, key: Key) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()


async def work(queue: Queue, reconcile: Callable[[Key], Awaitable[float | None]], on_pass: OnPass) -> None:
    """One worker: pass after pass until the queue is closed.

    `reconcile` returns in how many seconds it wants to see the key again, or None. Whatever it raises
    concerns that key alone.
    """
    while taken := await queue.get():
        key, waited_s = taken
        started = time.monotonic()
        result = "cancelled"
        try:
            wait_s = await reconcile(key)
            queue.succeeded(key)
            if wait_s is not None:
                queue.add_after(key, wait_s)
            result = "ok"
        except AicsweepError as error:
            result = type(error).__name__
            wait_s = queue.failed(key, at_least_s=getattr(error, "retry_after_s", 0.0))
            log.warning("%s; next try in %.1f s", error.message, wait_s, extra={"sweep": "/".join(key)})
        except Exception:
            # A mistake of ours, met in one sweep: the others must not wait for its mending.
            result = "bug"
            wait_s = queue.failed(key)
            log.exception("pass failed; next try in %.1f s", wait_s, extra={"sweep": "/".join(key)})
        finally:
            queue.done(key)
            on_pass(result, waited_s, time.monotonic() - started)
