"""One controller acts at a time, whatever clocks and networks do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from k8s.api import Api
from k8s.lease import Lease
from k8s.resources import LEASES
from tests.k8s.standin import StandIn, api_of, refusal, standing_in

NAMESPACE, NAME = "system", "controller"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lease_of(api: Api, identity: str, clock: Clock, lease_s: float = 15) -> Lease:
    return Lease(api, NAMESPACE, NAME, identity, lease_s=lease_s, clock=clock)


def spec(server: StandIn) -> dict[str, Any]:
    found: dict[str, Any] = server.objects["leases", NAMESPACE, NAME]["spec"]
    return found


async def test_the_first_one_makes_it_and_holds_it() -> None:
    async with standing_in() as server, api_of(server) as api:
        clock = Clock()
        one, other = lease_of(api, "one", clock), lease_of(api, "other", clock)
        assert not one.held()
        assert await one.attempt()
        assert one.held()
        assert not await other.attempt()
        assert not other.held()
        assert spec(server)["holderIdentity"] == "one"
        assert spec(server)["leaseDurationSeconds"] == 15
        assert spec(server)["leaseTransitions"] == 1


async def test_a_holder_stops_before_another_one_may_begin() -> None:
    async with standing_in() as server, api_of(server) as api:
        mine, theirs = Clock(), Clock()
        one, other = lease_of(api, "one", mine), lease_of(api, "other", theirs)
        await one.attempt()
        await other.attempt()
        for _ in range(15):
            assert not await other.attempt()
            theirs.now += 1
            mine.now += 1
            if mine.now - 1000 >= 10:
                assert not one.held()
        assert await other.attempt()
        assert spec(server)["leaseTransitions"] == 2


async def test_a_renewed_lease_is_not_taken_whatever_its_times_say() -> None:
    """Clocks of hosts differ by years; what counts is whether it changed, here."""
    async with standing_in() as server, api_of(server) as api:
        mine, theirs = Clock(), Clock()
        one, other = lease_of(api, "one", mine), lease_of(api, "other", theirs)
        await one.attempt()
        for _ in range(5):
            assert not await other.attempt()
            theirs.now += 10
            spec(server)["renewTime"] = "1990-01-01T00:00:00.000000Z"
            mine.now += 5
            assert await one.attempt()
            assert one.held()


async def test_renewing_is_one_request() -> None:
    async with standing_in() as server, api_of(server) as api:
        clock = Clock()
        one = lease_of(api, "one", clock)
        await one.attempt()
        acquired = spec(server)["acquireTime"]
        server.calls.clear()
        await one.attempt()
        assert server.verbs("leases") == ["patch"]
        assert spec(server)["acquireTime"] == acquired
        assert spec(server)["leaseTransitions"] == 1


async def test_two_that_take_it_at_once_are_not_both_told_so() -> None:
    async with standing_in() as server, api_of(server) as api:
        clock = Clock()
        them = [lease_of(api, f"c{number}", clock) for number in range(5)]
        got = await asyncio.gather(*(each.attempt() for each in them))
        assert sum(got) == 1
        assert [each.held() for each in them] == got
        # Held by nobody: the same again by way of a patch.
        spec(server)["holderIdentity"] = ""
        others = [lease_of(api, f"d{number}", clock) for number in range(5)]
        assert sum(await asyncio.gather(*(each.attempt() for each in others))) == 1


async def test_one_that_was_taken_over_learns_of_it() -> None:
    async with standing_in() as server, api_of(server) as api:
        clock = Clock()
        one = lease_of(api, "one", clock)
        await one.attempt()
        await server.put(
            "leases",
            {
                "metadata": {"namespace": NAMESPACE, "name": NAME, "uid": "u"},
                "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15},
            },
        )
        assert not await one.attempt()
        assert not await one.attempt()
        assert not one.held()
        assert spec(server)["holderIdentity"] == "other"


async def test_no_answer_leaves_what_was_held_until_its_time_is_over() -> None:
    async with standing_in() as server, api_of(server) as api:
        clock = Clock()
        one = lease_of(api, "one", clock)
        await one.attempt()
        server.fail("patch", "leases", lambda: refusal(500), times=3)
        clock.now += 5
        assert not await one.attempt()
        assert one.held()
        clock.now += 5
        assert not one.held()


async def test_time_counts_from_before_the_request() -> None:
    """An answer that took 9 s leaves 1 s, not 10."""
    async with standing_in() as server, api_of(server) as api:
        clock = Clock()
        one = lease_of(api, "one", clock)

        def late() -> web.StreamResponse:
            clock.now += 9
            return web.json_response(server.objects["leases", NAMESPACE, NAME])

        server.fail("create", "leases", late, done_first=True)
        assert await one.attempt()
        clock.now += 1
        assert not one.held()


async def test_a_deleted_lease_is_made_again() -> None:
    async with standing_in() as server, api_of(server) as api:
        one = lease_of(api, "one", Clock())
        await one.attempt()
        await server.remove("leases", NAMESPACE, NAME)
        assert await one.attempt()
        assert spec(server)["holderIdentity"] == "one"


async def test_one_by_the_same_name_goes_on_at_once() -> None:
    """The container was restarted in its pod, whose name is the identity."""
    async with standing_in() as server, api_of(server) as api:
        await lease_of(api, "pod", Clock()).attempt()
        assert await lease_of(api, "pod", Clock()).attempt()
        assert spec(server)["leaseTransitions"] == 1


async def test_a_released_lease_is_free_at_once() -> None:
    async with standing_in() as server, api_of(server) as api:
        clock = Clock()
        one, other = lease_of(api, "one", clock), lease_of(api, "other", clock)
        await one.attempt()
        assert not await other.attempt()
        await one.release()
        assert not one.held()
        assert await other.attempt()


async def test_nobody_releases_what_another_one_holds_or_fails_because_of_it() -> None:
    async with standing_in() as server, api_of(server) as api:
        clock = Clock()
        one, other = lease_of(api, "one", clock), lease_of(api, "other", clock)
        await other.release()
        await one.attempt()
        await other.release()
        assert spec(server)["holderIdentity"] == "one"
        server.fail("patch", "leases", lambda: refusal(500))
        await one.release()
        assert not one.held()


async def test_keeping_ends_when_it_can_not_be_renewed_in_time() -> None:
    async with standing_in() as server, api_of(server) as api:
        one = Lease(api, NAMESPACE, NAME, "one", lease_s=0.3)
        await one.acquire()
        server.fail("patch", "leases", lambda: refusal(503), times=1_000_000)
        server.fail("get", "leases", lambda: refusal(503), times=1_000_000)
        await one.keep()
        assert not one.held()


async def test_keeping_ends_in_time_when_the_server_does_not_answer() -> None:
    async with standing_in() as server, api_of(server) as api:
        one = Lease(api, NAMESPACE, NAME, "one", lease_s=0.3)
        await one.acquire()
        hangs = asyncio.Event()

        async def handle(*_: object) -> web.StreamResponse:
            await hangs.wait()
            return refusal(500)

        server._patch = handle  # type: ignore[method-assign, assignment]
        await one.keep()
        assert not one.held()
        hangs.set()


async def test_keeping_renews_for_as_long_as_it_can() -> None:
    async with standing_in() as server, api_of(server) as api:
        one = Lease(api, NAMESPACE, NAME, "one", lease_s=2)
        await one.acquire()
        keeping = asyncio.create_task(one.keep())
        server.fail("patch", "leases", lambda: refusal(503))
        await server.until(lambda: server.verbs("leases").count("patch") >= 4)
        assert one.held()
        assert not keeping.done()
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def test_acquiring_waits_for_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing_in() as server, api_of(server) as api:
        server.fail("get", "leases", lambda: refusal(500), times=3)
        one = Lease(api, NAMESPACE, NAME, "one", lease_s=0.4)
        await one.acquire()
        assert one.held()
        assert server.verbs("leases") == ["get"] * 4 + ["create"]


def test_its_kind_is_the_servers() -> None:
    assert LEASES.path("a", "b") == "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"
