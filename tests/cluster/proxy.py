"""A reverse proxy before the API server that counts a client's calls and makes the server misbehave towards it.

    controller --http://127.0.0.1:PORT/LANE/...--> Proxy --TLS, the cluster's token--> API server

Each client has a lane of its own, by the first part of its path, with a record of its calls and with faults
that concern nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.cluster.connection import Connection

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# Of one hop of the way only, or made anew on each.
_HOP = {"host", "connection", "transfer-encoding", "content-length", "authorization", "accept-encoding"}
_MAX_BODY = 1 << 23
_LAG_LOOK_S = 0.1


@dataclass(frozen=True)
class Call:
    """One request: the so many-th of its lane, from 1."""

    number: int
    agent: str
    verb: str
    resource: str
    name: str

    def __str__(self) -> str:
        return f"{self.number}: {self.verb} {self.resource} {self.name}".rstrip()


@dataclass
class Answer:
    """In place of the server's answer, for calls that fit: `status` with a reason that fits. `passed_on`: the
    server has done it all the same. The first `after` are spared, then each `every`-th up to `times` is not."""

    status: int
    verb: str = ""
    resource: str = ""
    times: float = float("inf")
    after: int = 0
    every: int = 1
    passed_on: bool = False
    retry_after_s: int = 0
    reason: str = ""
    seen: int = 0
    given: int = 0

    def strikes(self, call: Call) -> bool:
        if self.verb not in ("", call.verb) or self.resource not in ("", call.resource):
            return False
        self.seen += 1
        late = self.seen - self.after
        if late <= 0 or (late - 1) % self.every or self.given >= self.times:
            return False
        self.given += 1
        return True


@dataclass
class Lane:
    """One client: what it has asked, and what is done to it."""

    name: str
    url: str
    loop: asyncio.AbstractEventLoop
    calls: list[Call] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    # No connection gets an answer; those that are open are cut.
    away: bool = False
    # Lists are answered as they were, and watches say nothing until it is over: then all that they missed.
    lags: bool = False
    # (number of the call, whether the server has done it by then, what is done instead of an answer)
    at_call: tuple[int, bool, Callable[[], None]] | None = None
    _watches: set[asyncio.Transport] = field(default_factory=set)
    _silenced: set[asyncio.Transport] = field(default_factory=set)
    # Of each list, by its path and query, the last answer.
    _listed: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)

    def count(self) -> Counter[tuple[str, str]]:
        """Calls by (verb, resource)."""
        return Counter((call.verb, call.resource) for call in self.calls)

    def silence_watches(self) -> int:
        """Those that are open stay so and say nothing more, as behind a firewall that forgot them; how many."""
        self._silenced |= self._watches
        return len(self._watches)

    def cut_watches(self) -> int:
        """Those that are open end in the middle; how many."""
        for transport in (cut := list(self._watches)):
            self.loop.call_soon_threadsafe(transport.abort)
        return len(cut)


class Proxy:
    """The server, and its lanes."""

    def __init__(self, upstream: Connection) -> None:
        self._upstream, self._loop = upstream, asyncio.get_running_loop()
        self._lanes: dict[str, Lane] = {}
        self.url = ""

    def lane(self, name: str) -> Lane:
        """A new one for a client, or the one of that name."""
        if name not in self._lanes:
            self._lanes[name] = Lane(name, f"{self.url}/{name}", self._loop)
        return self._lanes[name]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        _, name, path = request.path.split("/", 2)
        lane = self._lanes[name]
        call = _call(request, f"/{path}", len(lane.calls) + 1)
        lane.calls.append(call)
        if lane.away:
            return _cut(request)
        number, done, instead = lane.at_call or (0, False, None)
        strikes = instead is not None and call.number == number
        if strikes and not done and instead:
            instead()
            return _cut(request)
        # The last one added first: a test may say more while one holds.
        answer = next((a for a in reversed(lane.answers) if a.strikes(call)), None)
        if answer is not None and not answer.passed_on:
            return _said(answer, call)
        response = await self._pass_on(request, f"/{path}", lane, call)
        if strikes and instead:
            instead()
            return _cut(request)
        return response if answer is None else _said(answer, call)

    async def _pass_on(self, request: web.Request, path: str, lane: Lane, call: Call) -> web.StreamResponse:
        if lane.lags and call.verb == "list" and request.path_qs in lane._listed:
            body, kept = lane._listed[request.path_qs]
            return web.Response(body=body, headers=kept)
        url = f"{self._upstream.server}{path}" + (f"?{request.query_string}" if request.query_string else "")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        try:
            async with self._upstream.session.request(
                request.method, url, data=await request.read(), headers=headers
            ) as upstream:
                kept = {k: v for k, v in upstream.headers.items() if k.lower() not in _HOP}
                kept.pop("Content-Encoding", None)
                if call.verb == "watch" and upstream.status == 200:
                    return await self._stream(request, upstream, lane, kept)
                body = await upstream.read()
                if call.verb == "list" and upstream.status == 200:
                    lane._listed[request.path_qs] = body, kept
                return web.Response(status=upstream.status, body=body, headers=kept)
        except (aiohttp.ClientError, OSError):
            # The server is away: as whoever asks it without a proxy would see it.
            return _cut(request)

    async def _stream(
        self, request: web.Request, upstream: aiohttp.ClientResponse, lane: Lane, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        number, done, _ = lane.at_call or (0, False, None)
        if done and len(lane.calls) == number:
            # A watch is done once the server has taken it.
            return response
        transport = request.transport
        assert transport is not None
        lane._watches.add(transport)
        try:
            async for line in upstream.content:
                while lane.lags:
                    await asyncio.sleep(_LAG_LOOK_S)
                if transport not in lane._silenced:
                    await response.write(line)
        except (aiohttp.ClientError, OSError):
            # The server has gone, or the client, or a test has cut it.
            return _cut(request)
        finally:
            lane._watches.discard(transport)
            lane._silenced.discard(transport)
        return response


def _cut(request: web.Request) -> web.Response:
    """No answer: the connection ends, as if the machine had gone."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _call(request: web.Request, path: str, number: int) -> Call:
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    resource, name, *sub = [*parts, "", ""][:3] if parts else ["", "", ""]
    if request.method == "GET":
        verb = "watch" if "watch" in request.query else "get" if name else "list"
    else:
        verb = _VERBS[request.method]
    resource = "/".join(part for part in (resource, *sub) if part)
    return Call(number, request.headers.get("User-Agent", ""), verb, resource, name)


_REASONS = {
    409: "Conflict", 410: "Expired", 429: "TooManyRequests", 403: "Forbidden", 500: "InternalError",
    504: "Timeout",
}  # fmt: skip


def _said(answer: Answer, call: Call) -> web.Response:
    status = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": answer.status,
        "reason": answer.reason or _REASONS.get(answer.status, ""), "message": f"the proxy refuses {call}",
    }  # fmt: skip
    headers = {"Retry-After": str(answer.retry_after_s)} if answer.retry_after_s else {}
    if call.verb == "watch" and answer.status == 410:
        # As the server says it of a version that it once could serve: in the stream.
        event = {"type": "ERROR", "object": status}
        return web.Response(text=json.dumps(event) + "\n", content_type="application/json")
    return web.Response(
        status=answer.status, text=json.dumps(status), content_type="application/json", headers=headers
    )


def write_kubeconfig(path: Path, lane: Lane) -> Path:
    """For a client of the lane; it has no credentials, the proxy has."""
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "lane",
        "contexts": [{"name": "lane", "context": {"cluster": "lane", "user": "lane"}}],
        "clusters": [{"name": "lane", "cluster": {"server": lane.url}}],
        "users": [{"name": "lane", "user": {}}],
    }  # fmt: skip
    path.write_text(json.dumps(config))
    return path


@asynccontextmanager
async def proxying(upstream: Connection) -> AsyncIterator[Proxy]:
    """A proxy on a free port of the loopback address."""
    proxy = Proxy(upstream)
    runner = web.ServerRunner(
        web.Server(proxy.handle, access_log=None), handle_signals=False, shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    proxy.url = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        with contextlib.suppress(Exception):
            await runner.cleanup()
