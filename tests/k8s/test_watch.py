"""The reflector keeps a cache like the server's objects, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from k8s import watch
from k8s.api import PAGE
from k8s.resources import JOBS
from k8s.watch import Cache, Reflector, pause_s
from tests.k8s.standin import StandIn, api_of, refusal, standing_in
from tests.k8s.test_cache import job, names_in, same


@pytest.fixture(autouse=True)
def _hardly_any_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PAUSE_S", 0.001)
    monkeypatch.setattr(watch, "_MAX_PAUSE_S", 0.01)


class Reflected:
    """A running reflector, and what it said."""

    def __init__(self, cache: Cache, reflector: Reflector, changed: list[str], restarts: list[str]) -> None:
        self.cache, self.reflector, self.changed, self.restarts = cache, reflector, changed, restarts


@asynccontextmanager
async def reflecting(server: StandIn, *, silence_s: float = 30, **where: str) -> AsyncIterator[Reflected]:
    cache, changed, restarts = Cache(same), [], []
    async with api_of(server) as api:
        reflector = Reflector(
            api,
            JOBS,
            cache,
            lambda found: changed.append(found["metadata"]["name"]),
            silence_s=silence_s,
            on_restart=lambda _, why: restarts.append(why),
            **where,
        )
        task = asyncio.create_task(reflector.run())
        try:
            yield Reflected(cache, reflector, changed, restarts)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_it_lists_then_follows() -> None:
    async with standing_in() as server:
        for number in range(PAGE + 1):
            await server.put("jobs", job(f"j{number}"))
        async with reflecting(server) as at:
            await at.reflector.synced.wait()
            assert len(at.cache) == len(at.changed) == PAGE + 1
            assert server.verbs("jobs").count("list") == 2
            await server.put("jobs", job("new"))
            await server.remove("jobs", "a", "j0")
            await server.until(lambda: at.changed[PAGE + 1 :] == ["new", "j0"])
            assert "j0" not in names_in(at.cache)
            assert "new" in names_in(at.cache)


async def test_only_what_the_labels_fit_is_kept() -> None:
    async with standing_in() as server:
        await server.put("jobs", job("ours"))
        await server.put("jobs", job("theirs", labels={"who": "them"}))
        async with reflecting(server, namespace="a", selector="who=us") as at:
            await at.reflector.synced.wait()
            await server.put("jobs", job("theirs2", labels={"who": "them"}))
            await server.put("jobs", job("ours2"))
            await server.until(lambda: "ours2" in at.changed)
            assert names_in(at.cache) == {"ours", "ours2"}


async def test_a_watch_that_ends_goes_on_from_where_it_was() -> None:
    async with standing_in() as server, reflecting(server) as at:
        await at.reflector.synced.wait()
        for number in range(3):
            await server.put("jobs", job(f"j{number}"))
            await server.until(lambda number=number: f"j{number}" in at.changed)  # type: ignore[misc]
            await server.end_watches()
            await server.until(lambda number=number: len(at.restarts) > number)  # type: ignore[misc]
            await server.put("jobs", job(f"between{number}"))
        await server.until(lambda: len(at.changed) == 6)
        assert server.verbs("jobs").count("list") == 1
        assert at.restarts == ["end"] * 3


async def test_bookmarks_move_the_version_on() -> None:
    async with standing_in() as server, reflecting(server) as at:
        await at.reflector.synced.wait()
        await server.until(lambda: "watch" in server.verbs("jobs"))
        await server.put("pods", job("of no interest"))
        await server.bookmark("jobs")
        await server.until(lambda: at.reflector._version == str(server.version))
        # History is gone; without the bookmark it would have to list anew.
        server.compacted_before = server.version
        await server.end_watches()
        await server.until(lambda: server.verbs("jobs").count("watch") == 2)
        await server.put("jobs", job("new"))
        await server.until(lambda: "new" in at.changed)
        assert server.verbs("jobs").count("list") == 1


async def test_history_gone_is_listed_anew_and_the_difference_is_news() -> None:
    async with standing_in() as server:
        await server.put("jobs", job("stays"))
        await server.put("jobs", job("goes"))
        async with reflecting(server) as at:
            await server.until(lambda: "watch" in server.verbs("jobs"))
            at.changed.clear()
            server.silent = True
            await server.remove("jobs", "a", "goes")
            await server.put("jobs", job("comes"))
            server.compacted_before = server.version
            await server.end_watches()
            await server.until(lambda: len(at.changed) >= 2)
            assert at.restarts == ["end", "Gone"]
            assert sorted(at.changed) == ["comes", "goes"]
            assert names_in(at.cache) == {"stays", "comes"}


async def test_a_silent_watch_is_begun_anew_and_nothing_is_missed() -> None:
    async with standing_in() as server, reflecting(server, silence_s=0.1) as at:
        await server.until(lambda: "watch" in server.verbs("jobs"))
        server.silent = True
        await server.put("jobs", job("unheard"))
        await server.until(lambda: at.restarts)
        assert at.restarts[0] == "Unavailable"
        assert "unheard" not in at.changed
        server.silent = False
        await server.until(lambda: "unheard" in at.changed)
        assert server.verbs("jobs").count("list") == 1


@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize("status", [404, 403, 500, 503, 429, 401])
async def test_no_answer_of_the_server_ends_it(verb: str, status: int) -> None:
    async with standing_in() as server:
        server.fail(verb, "jobs", lambda: refusal(status), times=5)
        async with reflecting(server) as at:
            await server.until(lambda: server.verbs("jobs").count("watch") > (5 if verb == "watch" else 0))
            await server.put("jobs", job("new"))
            await server.until(lambda: "new" in at.changed)


async def test_garbage_does_not_end_it() -> None:
    async with standing_in() as server:
        server.fail("list", "jobs", lambda: web.Response(text="<html>"))
        for garbage in ({"kind": "Status"}, [], {"metadata": 7}):
            server.fail("list", "jobs", lambda garbage=garbage: web.json_response(garbage))  # type: ignore[misc]
        server.fail("watch", "jobs", lambda: web.Response(text='{"type":"ADDED"}\n'))
        async with reflecting(server) as at:
            await server.put("jobs", job("new"))
            await server.until(lambda: "new" in at.changed)


async def test_a_server_that_is_away_is_waited_for() -> None:
    async with standing_in() as server, api_of(server) as api:
        pass
    cache, changed = Cache(same), []
    async with api_of(server) as api:
        restarts: list[str] = []
        reflector = Reflector(
            api, JOBS, cache, changed.append, silence_s=30, on_restart=lambda _, why: restarts.append(why)
        )
        task = asyncio.create_task(reflector.run())
        await server.until(lambda: len(restarts) > 5)
        assert set(restarts) == {"Unavailable"}
        assert not reflector.synced.is_set()
        assert reflector.fresh_at == float("-inf")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_every_sign_of_life_is_noted() -> None:
    async with standing_in() as server, reflecting(server) as at:
        await server.until(lambda: "watch" in server.verbs("jobs"))
        # A word in the stream, then a watch that is taken and says nothing.
        for sign_of_life in (lambda: server.bookmark("jobs"), server.end_watches):
            await server.put("jobs", job("seen"))
            await server.until(lambda: at.reflector._version == str(server.version))
            at.reflector.fresh_at = 0
            await sign_of_life()
            await server.until(lambda: at.reflector.fresh_at > 0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Failures in a row and seconds asked for, of each pause before another attempt."""
    made: list[tuple[int, float]] = []

    def pause_s(failures: int, asked_s: float = 0.0) -> float:
        made.append((failures, asked_s))
        return 0.001

    monkeypatch.setattr(watch, "pause_s", pause_s)
    return made


async def test_a_server_that_ends_each_watch_at_once_is_asked_ever_more_slowly(
    pauses: list[tuple[int, float]],
) -> None:
    async with standing_in() as server:
        server.fail("watch", "jobs", lambda: web.Response(), times=8)
        async with reflecting(server):
            await server.until(lambda: len(pauses) == 8)
    assert pauses == [(failures, 0.0) for failures in range(1, 9)]


async def test_a_watch_that_said_something_starts_the_count_anew(pauses: list[tuple[int, float]]) -> None:
    async with standing_in() as server:
        server.fail("list", "jobs", lambda: refusal(500), times=2)
        async with reflecting(server) as at:
            await at.reflector.synced.wait()
            await server.put("jobs", job("new"))
            await server.until(lambda: at.changed)
            await server.end_watches()
            await server.until(lambda: len(pauses) == 3)
    assert pauses == [(1, 0.0), (2, 0.0), (0, 0.0)]


async def test_what_the_server_asks_to_wait_is_waited(pauses: list[tuple[int, float]]) -> None:
    async with standing_in() as server:
        server.fail("list", "jobs", lambda: refusal(429, retry_after_s=7))
        server.fail("watch", "jobs", lambda: refusal(503, retry_after_s=8))
        async with reflecting(server):
            await server.until(lambda: len(pauses) == 2)
    assert pauses == [(1, 7.0), (2, 8.0)]
    assert pause_s(0, 7.0) >= 7.0


def test_pauses_grow_to_a_limit_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for failures, limit in ((0, 0.5), (1, 1.0), (3, 4.0), (5, 15.0), (5000, 15.0)):
        pauses = [pause_s(failures) for _ in range(200)]
        assert 0 <= min(pauses) < max(pauses) <= limit
        assert max(pauses) > limit / 2
