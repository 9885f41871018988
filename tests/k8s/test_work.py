"""The line of keys, and who works on it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

from k8s import work as module
from k8s.api_errors import Throttled
from k8s.watch import Key
from k8s.work import Queue, work
from runner.errors import Infrastructure

A, B, C = ("n", "a"), ("n", "b"), ("n", "c")


def nobody(*_: object) -> None:
    pass


async def take(queue: Queue) -> Key:
    taken = await queue.get()
    assert taken is not None
    return taken[0]


async def test_a_key_is_in_the_line_once_and_the_line_is_fair() -> None:
    queue = Queue()
    for key in (A, B, A, C, A):
        queue.add(key)
    assert len(queue) == 3
    assert [await take(queue) for _ in range(3)] == [A, B, C]
    assert len(queue) == 0


async def test_what_is_added_during_a_pass_gets_its_turn_after_it_behind_the_others() -> None:
    queue = Queue()
    queue.add(A)
    assert await take(queue) == A
    queue.add(A)
    queue.add(A)
    queue.add(B)
    assert await take(queue) == B
    waiting = asyncio.create_task(take(queue))
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done(A)
    assert await waiting == A
    queue.done(A)
    assert len(queue) == 0


async def test_a_key_that_always_comes_back_holds_nobody_up() -> None:
    queue = Queue()
    for key in (A, B, C):
        queue.add(key)
    order = []
    for _ in range(9):
        key = await take(queue)
        order.append(key)
        queue.add(key)
        queue.done(key)
    assert order == [A, B, C] * 3


async def test_later_is_replaced_by_later_and_by_now() -> None:
    queue = Queue()
    queue.add_after(A, 0.0)
    queue.add_after(A, 3600)
    queue.add_after(B, 0.001)
    assert await take(queue) == B
    assert len(queue) == 0
    # Now: what was planned is void once the key is taken.
    queue.add(A)
    assert await take(queue) == A
    assert not queue._timers
    queue.done(A)


async def test_failures_wait_longer_each_time_and_not_for_ever() -> None:
    queue = Queue()
    waits = [queue.failed(A) for _ in range(12)]
    limits = [min(60.0, 0.5 * 2**n) for n in range(12)]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, limits, strict=True))
    assert queue.failed(B) <= 0.5
    queue.succeeded(A)
    assert queue.failed(A) <= 0.5
    assert queue.failed(C, at_least_s=7) >= 7
    # One timer a key, however often it failed.
    assert len(queue._timers) == 3
    queue.clear()
    assert not queue._timers


async def test_an_event_does_not_wait_for_the_end_of_a_failures_pause() -> None:
    queue = Queue()
    for _ in range(10):
        queue.failed(A)
    queue.add(A)
    assert await take(queue) == A


async def test_a_closed_queue_hands_out_nothing_and_wakes_who_waits() -> None:
    queue = Queue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    assert await asyncio.gather(*waiting) == [None] * 3
    queue.add(A)
    assert await queue.get() is None


# --- workers


class Desk:
    """Workers on a queue, and who is at work now."""

    def __init__(self, workers: int) -> None:
        self.queue = Queue()
        self.busy: Counter[Key] = Counter()
        self.passes: list[Key] = []
        self.results: list[str] = []
        self.wait_s: float | None = None
        self.error: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()
        self.tasks = [
            asyncio.create_task(
                work(self.queue, self.reconcile, lambda result, *_: self.results.append(result))
            )
            for _ in range(workers)
        ]

    async def reconcile(self, key: Key) -> float | None:
        self.busy[key] += 1
        assert self.busy[key] == 1
        await self.go.wait()
        await asyncio.sleep(0)
        self.busy[key] -= 1
        self.passes.append(key)
        if self.error:
            raise self.error
        return self.wait_s

    async def until_passes(self, count: int) -> None:
        while len(self.results) < count:
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        self.queue.close()
        await asyncio.gather(*self.tasks)


async def test_never_two_passes_of_one_key_at_once_but_of_several_keys() -> None:
    desk = Desk(workers=4)
    desk.go.clear()
    for key in (A, B):
        desk.queue.add(key)
    while sum(desk.busy.values()) < 2:
        await asyncio.sleep(0)
    for _ in range(20):
        desk.queue.add(A)
        await asyncio.sleep(0)
    desk.go.set()
    await desk.until_passes(3)
    await desk.end()
    assert sorted(desk.passes) == [A, A, B]


async def test_ten_thousand_events_of_a_key_are_few_passes() -> None:
    desk = Desk(workers=4)
    for _ in range(10_000):
        desk.queue.add(A)
    await desk.until_passes(1)
    await desk.end()
    assert len(desk.passes) == 1


async def test_a_pass_says_when_it_wants_another() -> None:
    desk = Desk(workers=1)
    desk.wait_s = 0
    desk.queue.add(A)
    await desk.until_passes(3)
    await desk.end()
    assert set(desk.results) == {"ok"}


@pytest.mark.parametrize("error", [Infrastructure("store away"), ValueError("a mistake of ours")])
async def test_what_fails_is_tried_again_and_holds_nobody_up(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.001)
    desk = Desk(workers=1)
    desk.error = error
    desk.queue.add(A)
    await desk.until_passes(3)
    desk.error = None
    desk.queue.add(B)
    while desk.results.count("ok") < 2:
        await asyncio.sleep(0.001)
    await desk.end()
    # The next failure is a first one again.
    assert desk.queue._failures == {}
    assert desk.passes[:3] == [A, A, A]
    assert all(record.sweep == "n/a" for record in caplog.records)  # type: ignore[attr-defined]
    with_traceback = [record for record in caplog.records if record.exc_info]
    assert bool(with_traceback) == isinstance(error, ValueError)


async def test_what_the_server_asks_to_wait_is_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    desk = Desk(workers=1)
    failed = desk.queue.failed
    monkeypatch.setattr(
        desk.queue, "failed", lambda key, at_least_s=0.0: waits.append(at_least_s) or failed(key)
    )
    desk.error = Throttled("slow down", retry_after_s=7)
    desk.queue.add(A)
    await desk.until_passes(1)
    await desk.end()
    assert waits == [7]


async def test_a_cancelled_pass_gives_its_key_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    desk = Desk(workers=1)
    desk.go.clear()
    desk.queue.add(A)
    while not desk.busy[A]:
        await asyncio.sleep(0)
    desk.tasks[0].cancel()
    await asyncio.wait(desk.tasks)
    assert desk.results == ["cancelled"]
    desk.queue.add(A)
    assert await take(desk.queue) == A
    assert not caplog.records
