"""A person's way to Sweeps: what a refusal means to them, and how a request to measure again is added."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web

from k8s.access import Access, explained, with_request
from k8s.api import Api, Object
from k8s.api_errors import ApiError, Forbidden, translate
from k8s.resources import PLUGIN_CALLS, PODS, SWEEPS, Call
from runner.errors import BadInput, Infrastructure
from runner.spec import MAX_AGAIN, Again
from tests.k8s.asked import sweep
from tests.k8s.standin import api_of, refusal, standing_in


async def _asked(server_says: Callable[[], web.Response], verb: str = "get") -> Infrastructure:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        server.fail(verb, "sweeps", server_says)
        with pytest.raises(ApiError) as caught:
            await Access(api, "team-a").sweep("it")
    return explained(caught.value, "team-a")


async def test_a_cluster_without_sweeps() -> None:
    error = await _asked(lambda: web.Response(status=404, text="404 page not found\n"))
    assert error.message == "this cluster knows no Sweeps"
    assert "kubectl apply -f k8s/crd/sweeps.aicsweep.dev.yaml" in error.remedy


async def test_credentials_that_are_refused() -> None:
    error = await _asked(lambda: refusal(401, "Unauthorized"))
    assert error.message == "the cluster refuses your credentials"


async def test_a_server_in_trouble() -> None:
    error = await _asked(lambda: refusal(503, "ServiceUnavailable"))
    assert "can't get sweeps team-a/it" in error.message
    assert "kubectl cluster-info" in error.remedy


def test_a_missing_right_is_named() -> None:
    words = (
        b'{"message": "pods is forbidden: User \\"me\\" cannot get resource \\"pods/log\\" in the namespace"}'
    )
    error = translate(403, "get pods/log team-a/p", words)
    error.call = Call("get", PODS, "log")
    told = explained(error, "team-a")
    assert told.message == "you may not get pods/log in namespace team-a"
    assert "`kubectl auth can-i get pods --subresource=log -n team-a`" in told.remedy


def test_a_quota_is_no_missing_right() -> None:
    error = translate(403, "create pods team-a/p", b'{"message": "exceeded quota: pods=10"}')
    error.call = Call("create", PODS)
    assert isinstance(explained(error, "team-a"), Forbidden)
    assert "exceeded quota" in explained(error, "team-a").message


@pytest.mark.parametrize(
    ("name", "words"), [("quikstart", "did you mean quickstart?"), ("zz", "there are cores, quickstart")]
)
async def test_the_nearest_names(name: str, words: str) -> None:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        for known in ("quickstart", "cores"):
            await server.put("sweeps", {"metadata": {"namespace": "team-a", "name": known}})
        with pytest.raises(BadInput, match="is not in namespace team-a") as caught:
            await Access(api, "team-a").sweep(name)
    assert words in str(caught.value)


async def test_only_its_own_calls_leave() -> None:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        with pytest.raises(ValueError, match="no right"):
            await api.delete(SWEEPS, "a", "b", "u")
        assert isinstance(api, Api)
        assert server.calls == []


def ids(found: Object) -> list[str]:
    return [entry["id"] for entry in found["spec"]["again"]]


async def test_a_request_is_added_whatever_others_change_meanwhile() -> None:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        await server.put("sweeps", sweep("a"))
        server.fail("patch", "sweeps", lambda: refusal(409, "Conflict"), times=2)
        written = await Access(api, "team-a").ask_again("it", Again(id="b", where="ci > 2%"))
        assert ids(written) == ["a", "b"]
        assert written["spec"]["again"][1] == {"id": "b", "where": "ci > 2%"}
        assert server.verbs("sweeps") == ["get", "patch"] * 3
        # Two who ask at once: none of them writes over the other's.
        ask = [Access(api, "team-a").ask_again("it", Again(id=id_, where="True")) for id_ in ("c", "d")]
        await asyncio.gather(*ask)
        assert sorted(ids(await Access(api, "team-a").sweep("it"))) == ["a", "b", "c", "d"]
        server.fail("patch", "sweeps", lambda: refusal(409, "Conflict"), times=99)
        with pytest.raises(Infrastructure, match="changed all the time"):
            await Access(api, "team-a").ask_again("it", Again(id="e", where="True"))


async def test_a_cluster_that_drops_the_request_is_told_of() -> None:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        await server.put("sweeps", sweep())
        server.fail("patch", "sweeps", lambda: web.json_response(sweep()))
        with pytest.raises(Infrastructure, match="know no `again` yet"):
            await Access(api, "team-a").ask_again("it", Again(id="b", where="True"))


def test_the_oldest_request_makes_room_once_it_was_planned() -> None:
    full = [f"r{number}" for number in range(MAX_AGAIN)]
    entry = {"id": "new", "where": "True"}
    planned = sweep(*full, observedGeneration=3, planDigest="p")
    assert [each["id"] for each in with_request(planned, entry)] == [*full[1:], "new"]
    for status in ({}, {"observedGeneration": 3}, {"observedGeneration": 2, "planDigest": "p"}):
        with pytest.raises(BadInput, match=r"spec\.again: holds 32 requests that are not planned yet"):
            with_request(sweep(*full, **status), entry)
