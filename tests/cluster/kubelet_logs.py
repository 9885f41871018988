"""The part of a kubelet that answers `kubectl logs`, for all simulated nodes: what the shim's programs have written.

    kubectl, plugin --> API server --https://127.0.0.1:PORT/containerLogs/NAMESPACE/POD/CONTAINER--> here

The certificate is the API server's own: it does not ask for a kubelet's authority unless it is told to.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.cluster.connection import Connection

# (namespace, pod) -> the file with its log.
FindLog = Callable[[str, str], Path | None]


@asynccontextmanager
async def serving_logs(certificate: Path, find: FindLog) -> AsyncIterator[int]:
    """On a free port of the loopback address; gives the port."""

    async def answer(request: web.Request) -> web.Response:
        where = request.match_info
        file = find(where["namespace"], where["pod"])
        if file is None or not file.exists():
            return web.Response(status=404, text=f"pod {where['pod']} is not on this node")
        lines = file.read_text(errors="replace").splitlines(keepends=True)
        if tail := request.query.get("tailLines"):
            lines = lines[-int(tail) :]
        return web.Response(text="".join(lines))

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def answer_for(api: Connection, nodes: list[str], port: int) -> None:
    """From now on the API server asks here for logs of pods on these nodes."""
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    for node in nodes:
        # The whole list of addresses: one of type Hostname would be asked first.
        await api.request(
            "PATCH",
            f"/api/v1/nodes/{node}/status",
            {"status": status},
            content="application/merge-patch+json",
        )
