"""The API server of a kubeconfig for the parts of the test cluster that talk to it themselves: shim and proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

STRATEGIC = "application/strategic-merge-patch+json"
_AWAY_PAUSE_S = 0.2
_WATCH_S = 240


class Refused(Exception):
    """The server said no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class Connection:
    """Requests as the user of a kubeconfig."""

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self.server, self.session = server, session

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Any:
        """The answer, parsed. A server that is away is waited for: nothing here gives up. Raises Refused."""
        data = None if body is None else json.dumps(body)
        url = f"{self.server}{path}?{urlencode(query or {})}"
        while True:
            try:
                async with self.session.request(
                    method, url, data=data, headers={"Content-Type": content}
                ) as answer:
                    text = await answer.text()
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(_AWAY_PAUSE_S)
                continue
            if answer.status in (429, 500, 503, 504):
                await asyncio.sleep(_AWAY_PAUSE_S)
                continue
            if answer.status >= 400:
                raise Refused(answer.status, text)
            return json.loads(text)

    async def changes(self, path: str, selector: str) -> AsyncIterator[tuple[str, Any]]:
        """All objects as (SYNC, object), then what happens to them as (type, object), for ever. After an
        interruption that begins again, so what was deleted meanwhile is never said."""
        while True:
            listed = await self.request("GET", path, query={"labelSelector": selector})
            for found in listed["items"]:
                yield "SYNC", found
            query = {
                "labelSelector": selector,
                "watch": "1",
                "resourceVersion": listed["metadata"]["resourceVersion"],
                "timeoutSeconds": str(_WATCH_S),
            }
            try:
                async with self.session.get(f"{self.server}{path}?{urlencode(query)}") as answer:
                    async for line in answer.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        yield event["type"], event["object"]
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(_AWAY_PAUSE_S)


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Connection]:
    """As the client library reads it: tokens, client certificates, whatever authority."""
    from kubernetes.aio import client, config

    configuration = client.Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    async with client.ApiClient(configuration) as loaded:
        # The library's own connector has the authority and the client's certificate.
        tls = loaded.rest_client.ssl_context
        token = await configuration.get_api_key_with_prefix("BearerToken")
    headers = {"Authorization": token} if token else {}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=0),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        # An object of 300 KiB is one line of a watch.
        read_bufsize=1 << 22,
    ) as session:
        yield Connection(configuration.host, session)
