"""A stand-in for the API server that does what a real one can't be made to do: say nothing, end a watch,
forget its history, refuse, throttle, contradict. Objects live in memory; whatever can be shown on a real
server is tested there.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from k8s.api import Api

Object = dict[str, Any]
_PATH = re.compile(
    r"/apis?/(?:[a-z0-9.-]+/)?v1[a-z0-9]*(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<subresource>status|log))?$"
)


def refusal(
    status: int, reason: str = "", *, retry_after_s: int = 0, details: Object | None = None
) -> web.Response:
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    said = {"kind": "Status", "code": status, "reason": reason, "message": f"told to say {status}"}
    return web.json_response({**said, "details": details or {"kind": "x"}}, status=status, headers=headers)


@dataclass
class Fault:
    """The next `times` requests of `verb` on `plural` are answered so, instead of being done; or, if
    `done_first`, after they were done."""

    verb: str
    plural: str
    answer: Callable[[], web.StreamResponse]
    times: int
    done_first: bool


@dataclass
class StandIn:
    """Objects by (plural, namespace, name); `calls` are (verb, plural) of each request, in order."""

    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    version: int = 100
    # Watches say nothing more, bookmarks included, and take no notice.
    silent: bool = False
    compacted_before: int = 0
    url: str = ""
    _faults: list[Fault] = field(default_factory=list)
    _history: list[tuple[int, str, str, Object]] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _epoch: int = 0

    def fail(
        self,
        verb: str,
        plural: str,
        answer: Callable[[], web.StreamResponse],
        *,
        times: int = 1,
        done_first: bool = False,
    ) -> None:
        self._faults.append(Fault(verb, plural, answer, times, done_first))

    def heal(self) -> None:
        self._faults.clear()

    def verbs(self, plural: str) -> list[str]:
        return [verb for verb, of in self.calls if of == plural]

    async def put(self, plural: str, found: Object, event: str = "") -> Object:
        """As if somebody had written it; a new version, and the watchers hear of it."""
        meta = found["metadata"]
        key = (plural, meta.get("namespace", ""), meta["name"])
        event = event or ("MODIFIED" if key in self.objects else "ADDED")
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        meta.setdefault("uid", f"uid-{self.version}")
        self.objects[key] = found
        await self._tell(plural, event, found)
        return found

    async def remove(self, plural: str, namespace: str, name: str) -> None:
        found = self.objects.pop((plural, namespace, name))
        self.version += 1
        await self._tell(plural, "DELETED", self._at(found, self.version))

    async def bookmark(self, plural: str) -> None:
        await self._tell(plural, "BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    async def end_watches(self) -> None:
        async with self._news:
            self._epoch += 1
            self._news.notify_all()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Until something the test waits for is so; the test's own time limit ends a wait in vain."""
        while not condition():
            await asyncio.sleep(0.002)

    async def _tell(self, plural: str, event: str, found: Object) -> None:
        async with self._news:
            self._history.append((self.version, plural, event, json.loads(json.dumps(found))))
            self._news.notify_all()

    @staticmethod
    def _at(found: Object, version: int) -> Object:
        return {**found, "metadata": {**found["metadata"], "resourceVersion": str(version)}}

    # -- HTTP

    async def handle(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.match(request.path)
        assert match, request.path
        where = {key: value or "" for key, value in match.groupdict().items()}
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "get")
        if verb == "get" and not where["name"]:
            verb = "watch" if request.query.get("watch") else "list"
        if where["subresource"] == "log":
            verb = "log"
        body = await request.json() if request.can_read_body else None
        self.calls.append((verb, where["plural"]))
        self.headers.append(dict(request.headers))
        self.bodies.append(body)
        fault = next((f for f in self._faults if (f.verb, f.plural) == (verb, where["plural"])), None)
        answer = getattr(self, f"_{verb}")
        if fault is None:
            found: web.StreamResponse = await answer(request, where, body)
            return found
        fault.times -= 1
        if not fault.times:
            self._faults.remove(fault)
        if fault.done_first:
            await answer(request, where, body)
        return fault.answer()

    async def _list(self, request: web.Request, where: dict[str, str], body: Any) -> web.StreamResponse:
        namespace, selector = where["namespace"], request.query.get("labelSelector", "")
        fitting = [
            found
            for (plural, of, _), found in sorted(self.objects.items())
            if plural == where["plural"] and namespace in ("", of) and _fits(found, selector)
        ]
        start, version = 0, self.version
        if token := request.query.get("continue"):
            start, version = (int(part) for part in token.split("."))
        limit = int(request.query.get("limit", "0")) or len(fitting)
        more = f"{start + limit}.{version}" if len(fitting) > start + limit else ""
        metadata = {"resourceVersion": str(version), "continue": more}
        return web.json_response({"metadata": metadata, "items": fitting[start : start + limit]})

    async def _watch(self, request: web.Request, where: dict[str, str], body: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        epoch, said = self._epoch, int(request.query["resourceVersion"])
        if said < self.compacted_before:
            expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            await response.write(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
            return response
        # Changes are told again to whoever asks from before them, bookmarks are not.
        seen, old = 0, len(self._history)
        while self._epoch == epoch:
            async with self._news:
                if seen == len(self._history):
                    await self._news.wait()
                news, first, seen = self._history[seen:], seen, len(self._history)
            selector = request.query.get("labelSelector", "")
            for number, (version, plural, event, found) in enumerate(news, first):
                wanted = number >= old if event == "BOOKMARK" else version > said and _fits(found, selector)
                if wanted and plural == where["plural"] and not self.silent:
                    await response.write(json.dumps({"type": event, "object": found}).encode() + b"\n")
        return response

    async def _get(self, request: web.Request, where: dict[str, str], body: Any) -> web.StreamResponse:
        found = self.objects.get(self._key(where))
        return web.json_response(found) if found else refusal(404, "NotFound")

    async def _log(self, request: web.Request, where: dict[str, str], body: Any) -> web.StreamResponse:
        """No container of a pod ever begins here."""
        return refusal(400, "BadRequest")

    async def _create(self, request: web.Request, where: dict[str, str], body: Any) -> web.StreamResponse:
        where["name"] = body["metadata"]["name"]
        if self._key(where) in self.objects:
            return refusal(409, "AlreadyExists")
        return web.json_response(await self.put(where["plural"], body), status=201)

    async def _patch(self, request: web.Request, where: dict[str, str], body: Any) -> web.StreamResponse:
        found = self.objects.get(self._key(where))
        if found is None:
            return refusal(404, "NotFound")
        if isinstance(body, list):
            *tests, write = body
            if any(found["metadata"][each["path"].rpartition("/")[2]] != each["value"] for each in tests):
                return web.json_response({"kind": "Status", "reason": "Invalid", "details": {}}, status=422)
            return web.json_response(await self.put(where["plural"], {**found, "status": write["value"]}))
        version = body.get("metadata", {}).get("resourceVersion")
        if version and version != found["metadata"]["resourceVersion"]:
            return refusal(409, "Conflict")
        body.get("metadata", {}).pop("resourceVersion", None)
        return web.json_response(await self.put(where["plural"], _merged(found, body)))

    async def _delete(self, request: web.Request, where: dict[str, str], body: Any) -> web.StreamResponse:
        found = self.objects.get(self._key(where))
        if found is None:
            return refusal(404, "NotFound")
        if body["preconditions"]["uid"] != found["metadata"]["uid"]:
            return refusal(409, "Conflict")
        await self.remove(where["plural"], where["namespace"], where["name"])
        return web.json_response({"kind": "Status", "metadata": {}, "status": "Success"})

    @staticmethod
    def _key(where: dict[str, str]) -> tuple[str, str, str]:
        return where["plural"], where["namespace"], where["name"]


def _fits(found: Object, selector: str) -> bool:
    labels = found["metadata"].get("labels", {})
    if among := re.fullmatch(r"(\S+) in \((.*)\)", selector):
        return labels.get(among[1]) in among[2].split(",")
    key, _, value = selector.partition("=")
    return not selector or labels.get(key) == value


def _merged(into: Object, patch: Object) -> Object:
    merged = {key: value for key, value in into.items() if patch.get(key, value) is not None}
    for key, value in patch.items():
        if isinstance(value, dict):
            merged[key] = _merged(into.get(key) or {}, value)
        elif value is not None:
            merged[key] = value
    return merged


@asynccontextmanager
async def standing_in() -> AsyncIterator[StandIn]:
    server = StandIn()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await server.end_watches()
        await runner.cleanup()


@asynccontextmanager
async def api_of(server: StandIn, **options: Any) -> AsyncIterator[Api]:
    async with client.ApiClient(client.Configuration(host=server.url)) as connection:
        yield Api(connection, **options)
