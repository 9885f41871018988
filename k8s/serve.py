"""The controller's HTTP server: is it alive, does it know what goes on, what has it done."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(
    listen: str, *, stale: Callable[[], list[str]], metrics: Callable[[], bytes]
) -> AsyncIterator[str]:
    """Serves /healthz, /readyz and /metrics at HOST:PORT `listen`; the address in fact, for port 0.

    `stale` names what has not been heard of for too long. Raises OSError where the port is taken.
    """

    async def healthz(_: web.Request) -> web.Response:
        # Whoever answers has a running loop; a part that dies ends the process.
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        names = stale()
        if names:
            return web.Response(status=503, text="".join(f"no news of {name}\n" for name in names))
        return web.Response(text="ok\n")

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", exposition)]
    )
    host, _, port = listen.rpartition(":")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host.strip("[]") or None, int(port))
        await site.start()
        host, port = runner.addresses[0][:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        log.info("listening", extra={"address": address})
        yield address
    finally:
        await runner.cleanup()
