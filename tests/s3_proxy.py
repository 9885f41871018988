"""A proxy in front of the S3 server that misbehaves as a script says, a request at a time.

    aicsweep --> Proxy --(script: what is done with this request?)--> S3 server

A script is a function of what is `Asked`; None lets the request through. What may be done is below it:
`answer`, `cut`, `cut_body`, `lost`, `slow`, `late`, `twice`, `flipped`, `then`. Nothing is retried here and the
Host header is kept, so signatures stay right.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL


@dataclass(frozen=True)
class Asked:
    """One request: its number from 1, the seconds since the proxy was made, and what S3 is asked. `key` is
    without the bucket; for a listing it is the prefix."""

    number: int
    at_s: float
    method: str
    key: str
    access_key: str
    listing: bool = False

    @property
    def writes(self) -> bool:
        return self.method in ("PUT", "POST")


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: CIMultiDict[str]
    body: bytes


Forward = Callable[[], Awaitable[_Answer]]
Do = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]
Script = Callable[[Asked], Do | None]


def answer(status: int, code: str, retry_after_s: int | None = None) -> Do:
    """S3's error, without asking the server."""

    async def do(request: web.Request, forward: Forward) -> web.StreamResponse:
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>scripted</Message></Error>"
        text = "" if request.method == "HEAD" else body
        return web.Response(status=status, text=text, content_type="application/xml", headers=headers)

    return do


async def cut(request: web.Request, forward: Forward) -> web.StreamResponse:
    """The connection ends and the server hears nothing: for a while of this, the store is away."""
    return _abort(request)


async def lost(request: web.Request, forward: Forward) -> web.StreamResponse:
    """The server does it, and the connection ends before the answer."""
    await forward()
    return _abort(request)


async def cut_body(request: web.Request, forward: Forward) -> web.StreamResponse:
    """The connection is reset in the middle of the body: of an upload, or of an answer."""
    if request.method == "PUT":
        await request.content.readany()
        return _abort(request)
    got = await forward()
    response = web.StreamResponse(status=got.status, headers=got.headers)
    response.content_length = len(got.body)
    await response.prepare(request)
    await response.write(got.body[: len(got.body) // 2])
    return _abort(request)


async def twice(request: web.Request, forward: Forward) -> web.StreamResponse:
    """The server gets it twice, and the second answer is what the client sees."""
    await forward()
    return _response(await forward())


def slow(seconds: float) -> Do:
    async def do(request: web.Request, forward: Forward) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return _response(await forward())

    return do


def late(seconds: float) -> Do:
    """The server does it at once; the answer comes after so long."""

    async def do(request: web.Request, forward: Forward) -> web.StreamResponse:
        got = await forward()
        await asyncio.sleep(seconds)
        return _response(got)

    return do


async def flipped(request: web.Request, forward: Forward) -> web.StreamResponse:
    """One bit of the answer's body is another one."""
    got = await forward()
    body = bytearray(got.body)
    body[len(body) // 2] ^= 1
    return _response(_Answer(got.status, got.headers, bytes(body)))


def then(act: Callable[[], object]) -> Do:
    """The server answers; `act` is done before the client sees it."""

    async def do(request: web.Request, forward: Forward) -> web.StreamResponse:
        got = await forward()
        await asyncio.get_running_loop().run_in_executor(None, act)
        return _response(got)

    return do


class Proxy:
    """Runs in a thread of its own; `script` may be changed at any time, `asked` only grows."""

    def __init__(self, upstream: str) -> None:
        self.script: Script = lambda asked: None
        self.asked: list[Asked] = []
        self.endpoint = ""
        self._upstream, self._made = upstream, time.monotonic()
        self._session: aiohttp.ClientSession | None = None

    def seconds(self) -> float:
        """Since it was made; the clock of `Asked.at_s`."""
        return time.monotonic() - self._made

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = self._asked(request)
        self.asked.append(asked)
        body: bytes | None = None

        async def forward() -> _Answer:
            nonlocal body
            # Not request.read(), which refuses more than 1 MiB.
            body = await request.content.read() if body is None else body
            return await self._forward(request, body)

        do = self.script(asked)
        try:
            return _response(await forward()) if do is None else await do(request, forward)
        except (aiohttp.ClientError, OSError):
            return _abort(request)

    def _asked(self, request: web.Request) -> Asked:
        _, _, key = unquote(request.path).lstrip("/").partition("/")
        listing = "list-type" in request.query
        signer = re.search(r"Credential=([^/]+)/", request.headers.get("Authorization", ""))
        return Asked(
            len(self.asked) + 1, self.seconds(), request.method,
            request.query.get("prefix", "") if listing else key, signer.group(1) if signer else "", listing,
        )  # fmt: skip

    async def _forward(self, request: web.Request, body: bytes) -> _Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
            )
        # As it came: yarl would write the path's escapes anew, and the signature holds the old ones.
        url = f"{self._upstream}{request.raw_path}"
        async with self._session.request(
            request.method, URL(url, encoded=True), data=body or None, headers=request.headers,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
        ) as got:  # fmt: skip
            headers = CIMultiDict(got.headers)
            headers.pop("Transfer-Encoding", None)
            headers.pop("Connection", None)
            return _Answer(got.status, headers, await got.read())

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.endpoint = f"http://{host}:{port}"
        ready.set()
        await stop.wait()
        if self._session is not None:
            await self._session.close()
        with contextlib.suppress(Exception):
            await runner.cleanup()


@contextmanager
def proxying(upstream: str) -> Iterator[Proxy]:
    """A proxy on a free port in front of the server at `upstream`."""
    proxy, ready = Proxy(upstream), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(ready, stop),), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def _response(got: _Answer) -> web.StreamResponse:
    response = web.Response(status=got.status, headers=got.headers, body=got.body)
    if "Content-Length" in got.headers and not got.body:
        # A HEAD's: the length of what a GET would bring.
        response.headers["Content-Length"] = got.headers["Content-Length"]
    return response


def _abort(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
