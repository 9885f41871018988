"""Requests and answers, against a server that does what a real one can't be asked for.

What a real server makes of these requests is tested in tests/cluster.
"""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web
from kubernetes.aio.config import incluster_config

from k8s.api import PAGE, Api, connect
from k8s.api_errors import AlreadyExists, Conflict, Gone, NotFound, Throttled, Unavailable
from k8s.resources import CALLS, EVENTS, JOBS, PLUGIN_CALLS, PODS, RESOURCES, SWEEPS, Call
from runner import __version__
from runner.errors import BadInput
from tests.k8s.standin import api_of, refusal, standing_in


def job(name: str, **labels: str) -> dict[str, object]:
    return {"metadata": {"namespace": "a", "name": name, "labels": labels}}


async def pages_of(api: Api, **where: str) -> list[list[str]]:
    return [[found["metadata"]["name"] for found in page] async for page, _ in api.pages(JOBS, **where)]


async def test_a_list_comes_in_pages_of_one_version() -> None:
    async with standing_in() as server, api_of(server) as api:
        for number in range(PAGE + 1):
            await server.put("jobs", job(f"j-{number:04}"))
        pages = [(len(page), version) async for page, version in api.pages(JOBS)]
        assert pages == [(PAGE, str(server.version)), (1, str(server.version))]


async def test_a_list_is_of_a_namespace_and_of_labels() -> None:
    async with standing_in() as server, api_of(server) as api:
        await server.put("jobs", job("one", who="us"))
        await server.put("jobs", job("two", who="them"))
        await server.put("jobs", {"metadata": {"namespace": "b", "name": "three", "labels": {"who": "us"}}})
        assert await pages_of(api, namespace="a", selector="who=us") == [["one"]]
        assert await pages_of(api, selector="who in (us,nobody)") == [["one", "three"]]


async def test_a_page_asked_for_too_late_is_gone() -> None:
    async with standing_in() as server, api_of(server) as api:
        for number in range(PAGE + 1):
            await server.put("jobs", job(f"j-{number}"))
        pages = api.pages(JOBS)
        await anext(pages)
        server.fail("list", "jobs", lambda: refusal(410, "Expired"))
        with pytest.raises(Gone):
            await anext(pages)


async def test_who_asks_is_said(tmp_path: Path) -> None:
    async with standing_in() as server:
        kubeconfig = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
        }
        (tmp_path / "config").write_text(json.dumps(kubeconfig))
        async with connect(kubeconfig=str(tmp_path / "config")) as api:
            await pages_of(api)
        assert server.headers[0]["User-Agent"] == f"aicsweep-controller/{__version__}"
        assert server.headers[0]["Authorization"] == "Bearer secret"


_PLUGIN = """#!/bin/sh
echo >> calls
expires=$(date -u -d '+1 second' +%Y-%m-%dT%H:%M:%SZ)
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
 "status": {"token": "number-'$(wc -l < calls)'", "expirationTimestamp": "'$expires'"}}'
"""


async def test_a_token_that_expires_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "plugin"
    plugin.write_text(_PLUGIN)
    plugin.chmod(0o755)
    exec_ = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    async with standing_in() as server:
        kubeconfig = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "users": [{"name": "u", "user": {"exec": exec_}}],
        }
        (tmp_path / "config").write_text(json.dumps(kubeconfig))
        async with connect(kubeconfig=str(tmp_path / "config")) as api:
            await pages_of(api)
            await pages_of(api)
        # It is renewed some minutes before it expires, so each time.
        tokens = [headers["Authorization"] for headers in server.headers]
        assert tokens == ["Bearer number-2", "Bearer number-3"]


def test_no_cluster_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    async def none() -> None:
        async with connect(kubeconfig=str(tmp_path / "none")):
            pass

    with pytest.raises(BadInput, match="KUBECONFIG: leads to no cluster"):
        asyncio.run(none())


def test_in_a_pod_its_service_account_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-pod")
    (tmp_path / "ca.crt").write_text("none")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    seen = {}

    class Seen(Exception):
        pass

    def connection(configuration: object) -> object:
        seen.update(vars(configuration))
        raise Seen

    monkeypatch.setattr("k8s.api.client.ApiClient", connection)

    async def go() -> None:
        async with connect():
            pass

    with pytest.raises(Seen):
        asyncio.run(go())
    assert seen["_base_path"] == "https://127.0.0.1:1"
    assert seen["api_key"] == {"BearerToken": "bearer of-the-pod"}
    assert seen["ssl_ca_cert"] == str(tmp_path / "ca.crt")


async def test_errors_are_ours_with_the_one_they_come_from() -> None:
    async with standing_in() as server, api_of(server) as api:
        with pytest.raises(NotFound, match="can't get jobs a/none"):
            await api.get(JOBS, "a", "none")
        await api.create(JOBS, job("one"))
        with pytest.raises(AlreadyExists):
            await api.create(JOBS, job("one"))
        with pytest.raises(Conflict):
            await api.delete(JOBS, "a", "one", "another uid")
        server.fail("get", "jobs", lambda: refusal(429, retry_after_s=7))
        with pytest.raises(Throttled) as throttled:
            await api.get(JOBS, "a", "one")
        assert throttled.value.retry_after_s == 7
        server.fail("get", "jobs", lambda: web.Response(text="not json"))
        with pytest.raises(Unavailable) as garbage:
            await api.get(JOBS, "a", "one")
        assert isinstance(garbage.value.__cause__, ValueError)


async def test_a_server_that_is_away_or_says_nothing_is_unavailable() -> None:
    async with standing_in() as server, api_of(server, request_s=0.05) as api:
        hangs = asyncio.Event()

        async def handle(*_: object) -> web.StreamResponse:
            await hangs.wait()
            return web.Response()

        server._get = handle  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable, match="no answer in time"):
            await api.get(JOBS, "a", "one")
        hangs.set()
    async with api_of(server) as api:
        with pytest.raises(Unavailable, match="can't get jobs a/one"):
            await api.get(JOBS, "a", "one")


async def test_a_status_is_never_written_to_another_sweep_of_the_same_name() -> None:
    async with standing_in() as server, api_of(server) as api:
        found = await server.put(
            "sweeps", {"metadata": {"namespace": "a", "name": "s"}, "status": {"old": 1}}
        )
        found = copy.deepcopy(found)
        other = {"metadata": {**found["metadata"], "uid": "the one before"}}
        with pytest.raises(Conflict):
            await api.replace_status(SWEEPS, other, {"phase": "Complete"})
        written = await api.replace_status(SWEEPS, found, {"phase": "Planning"})
        assert server.objects["sweeps", "a", "s"]["status"] == {"phase": "Planning"}
        # Who has not seen that yet, e.g. another controller before it led.
        with pytest.raises(Conflict):
            await api.replace_status(SWEEPS, found, {"phase": "Complete"})
        assert written["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]
        assert server.objects["sweeps", "a", "s"]["status"] == {"phase": "Planning"}


async def test_a_request_without_a_right_to_it_never_leaves() -> None:
    assert Call("delete", PODS) not in CALLS
    async with standing_in() as server, api_of(server) as api:
        with pytest.raises(ValueError, match="no right"):
            await api.delete(PODS, "a", "p", "uid")
        assert server.calls == []


async def test_every_right_is_asked_for_by_some_method() -> None:
    """A right that no method can use is one too many in the generated role."""
    async with standing_in() as server:
        used = []

        class Noted(Api):
            async def _send(self, call: Call, *args: object, **kwargs: object):  # type: ignore[no-untyped-def, override]
                used.append(call)
                raise NotFound("noted")

        api = Noted.__new__(Noted)
        api._agent = "noted"
        meta = {"namespace": "a", "name": "b", "uid": "u", "resourceVersion": "1"}
        for resource in RESOURCES:
            for asked in (
                api.get(resource, "a", "b"),
                anext(api.pages(resource)),
                api.watch(resource, "1", silence_s=1).__aenter__(),
                api.create(resource, job("x")),
                api.patch(resource, "a", "b", {}),
                api.replace_status(resource, {"metadata": meta}, {}),
                api.delete(resource, "a", "b", "u"),
            ):
                with suppress(NotFound):
                    await asked
        with suppress(NotFound):
            await api.log("a", "b")
        assert {*CALLS, *PLUGIN_CALLS} <= set(used)
        assert server.calls == []


async def test_calls_are_told_with_their_results() -> None:
    told = []
    async with standing_in() as server, api_of(server, on_call=lambda *call: told.append(call[:3])) as api:
        await api.create(EVENTS, job("one"))
        with pytest.raises(NotFound):
            await api.get(JOBS, "a", "none")
    async with api_of(server, on_call=lambda *call: told.append(call[:3])) as api:
        with pytest.raises(Unavailable):
            await api.get(JOBS, "a", "one")
    assert told == [
        ("create", "events", "ok"),
        ("get", "jobs", "NotFound"),
        ("get", "jobs", "Unavailable"),
    ]


# --- watch


async def test_a_watch_brings_changes_since_its_version() -> None:
    async with standing_in() as server, api_of(server) as api:
        await server.put("jobs", job("old"))
        since = str(server.version)
        async with api.watch(JOBS, since, silence_s=30) as events:
            await server.put("jobs", job("new"))
            event, found = await anext(events)
            assert (event, found["metadata"]["name"]) == ("ADDED", "new")
            await server.bookmark("jobs")
            assert (await anext(events))[0] == "BOOKMARK"
            await server.remove("jobs", "a", "old")
            event, found = await anext(events)
            assert (event, found["metadata"]["name"]) == ("DELETED", "old")
            await server.end_watches()
            assert [event async for event in events] == []


async def test_a_watch_from_too_long_ago_is_gone() -> None:
    async with standing_in() as server, api_of(server) as api:
        server.compacted_before = 100
        async with api.watch(JOBS, "99", silence_s=30) as events:
            with pytest.raises(Gone, match="too old"):
                await anext(events)


async def test_a_watch_that_says_nothing_is_cut() -> None:
    async with (
        standing_in() as server,
        api_of(server) as api,
        api.watch(JOBS, "100", silence_s=0.05) as events,
    ):
        with pytest.raises(Unavailable, match="no answer in time"):
            await anext(events)


async def test_a_watch_that_breaks_in_a_word_is_unavailable() -> None:
    async with standing_in() as server, api_of(server) as api:
        for words in (b'{"type": "ADDED", "object": {"meta', b'{"kind": "Sta"}\n', b"7\n"):
            server.fail("watch", "jobs", lambda words=words: web.Response(body=words))  # type: ignore[misc]
            async with api.watch(JOBS, "100", silence_s=30) as events:
                with pytest.raises(Unavailable):
                    await anext(events)


async def test_a_watch_that_is_not_taken_raises_at_its_beginning() -> None:
    async with standing_in() as server, api_of(server) as api:
        server.fail("watch", "jobs", lambda: refusal(429, retry_after_s=2))
        with pytest.raises(Throttled):
            async with api.watch(JOBS, "100", silence_s=30):
                pass
