"""The Kubernetes API, in plain dicts. The only module that imports the client library.

    watch, reconcile, events, lease, access --> Api --(kubernetes.aio: TLS, credentials, connections)--> API server

Each method is one request, with a time limit, never repeated here: who waits for what is decided by
those who know what it was for. Errors are those of `api_errors`.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from kubernetes.aio import client, config
from kubernetes.aio.config import kube_config

from k8s import names
from k8s.api_errors import ApiError, Unavailable, translate
from k8s.resources import CALLS, PODS, Call, Resource
from runner import __version__
from runner.errors import BadInput, Problem

Object = dict[str, Any]
# (verb, resource, result, seconds) of every request; of a watch, until the server took it.
OnCall = Callable[[str, str, str, float], None]

FIELD_MANAGER = "aicsweep-controller"
# Of 10,000 Jobs, pages of 500 take 10 MiB more at once and no less time.
PAGE = 250
_CONNECT_S = 10.0
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# The server ends a watch after so long; spread, so that watches don't all begin again at once.
_WATCH_S = (240, 300)
_MERGE, _JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "patch": "PATCH",
    "delete": "DELETE",
}


@asynccontextmanager
async def connect(
    *,
    kubeconfig: str = "",
    context: str = "",
    request_s: float = 30.0,
    on_call: OnCall | None = None,
    calls: Sequence[Call] = CALLS,
    agent: str = FIELD_MANAGER,
) -> AsyncIterator[Api]:
    """The API server of `kubeconfig` (files as in KUBECONFIG), else of the cluster this runs in, else of
    ~/.kube/config; `calls` are all that will be asked of it (by default CALLS), in the name of `agent`.

    No request is made yet. Credentials that expire are renewed. Raises BadInput.
    """
    configuration = client.Configuration()
    try:
        if kubeconfig or not _load_in_cluster(configuration):
            loader = await config.load_kube_config(  # type: ignore[no-untyped-call]
                kubeconfig or None,
                context=context or None,
                client_configuration=configuration,
                persist_config=False,
            )
            configuration.refresh_api_key_hook = _renewing(loader)  # type: ignore[assignment]
    # The library takes a file that is not there, or is no mapping, for one, and fails later.
    except (config.ConfigException, OSError, ValueError, TypeError, AttributeError) as error:
        remedy = "Set KUBECONFIG, or run it in a pod with a service account."
        raise BadInput([Problem("KUBECONFIG", f"leads to no cluster: {error}", remedy)]) from error
    async with client.ApiClient(configuration) as connection:
        connection.user_agent = f"{agent}/{__version__}"
        yield Api(connection, request_s=request_s, on_call=on_call, calls=calls, agent=agent)


def _renewing(loader: Any) -> Callable[[client.Configuration], Awaitable[None]]:
    """Asked before each request for the token, as the library has it for tokens of a pod: of a plugin that
    told when its token expires (cloud clusters: a quarter of an hour) another one is taken in time."""

    async def renew(configuration: client.Configuration) -> None:
        if hasattr(loader, "exec_plugin_expiry"):
            await loader.load_from_exec_plugin()
            configuration.api_key["BearerToken"] = loader.token

    return renew


def namespace_of(kubeconfig: str = "", context: str = "") -> str:
    """The namespace that kubectl would use: of the context, else of the pod this runs in, else `default`."""
    files = kubeconfig or kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    try:
        merged = kube_config.KubeConfigMerger(files).config  # type: ignore[no-untyped-call]
        loader = kube_config.KubeConfigLoader(merged, context or None)  # type: ignore[no-untyped-call]
        chosen = loader.current_context["context"]
    except (config.ConfigException, OSError, ValueError, TypeError, AttributeError):
        return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.is_file() else "default"
    return str(chosen.get("namespace") or "default")


def _load_in_cluster(configuration: client.Configuration) -> bool:
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        return False
    return True


class Api:
    """Requests to one API server."""

    def __init__(
        self,
        connection: client.ApiClient,
        *,
        request_s: float = 30.0,
        on_call: OnCall | None = None,
        calls: Sequence[Call] = CALLS,
        agent: str = FIELD_MANAGER,
    ) -> None:
        self._connection = connection
        self._calls, self._agent = calls, agent
        self._limit = aiohttp.ClientTimeout(total=request_s, sock_connect=_CONNECT_S)
        self._on_call = on_call or (lambda *_: None)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return await self._answer(Call("get", resource), namespace, name)

    async def log(self, namespace: str, pod: str, *, tail: int | None = None) -> str:
        """What our container of a pod has written, or its last `tail` lines; a cluster may add others."""
        call = Call("get", PODS, "log")
        query = {"container": names.CONTAINER, "tailLines": "" if tail is None else str(tail)}
        response = await self._send(call, namespace, pod, query=query)
        try:
            return (await response.read()).decode(errors="replace")
        except (aiohttp.ClientError, OSError) as error:
            raise _no_answer(_doing(call, namespace, pod), error) from error

    async def pages(
        self, resource: Resource, *, namespace: str = "", selector: str = "", fields: str = ""
    ) -> AsyncIterator[tuple[list[Object], str]]:
        """All objects that the labels of `selector` and the `fields` fit, PAGE at a time, and the version of the
        whole list.

        Raises Gone when a page is asked for too late.
        """
        query = {"limit": str(PAGE), "labelSelector": selector, "fieldSelector": fields, "continue": ""}
        while True:
            page = await self._answer(Call("list", resource), namespace, query=query)
            query["continue"] = page["metadata"].get("continue", "")
            yield page.get("items") or [], page["metadata"].get("resourceVersion", "")
            if not query["continue"]:
                return
            del page

    @asynccontextmanager
    async def watch(
        self, resource: Resource, version: str, *, silence_s: float, namespace: str = "", selector: str = ""
    ) -> AsyncIterator[AsyncIterator[tuple[str, Object]]]:
        """Changes since `version` as (type, object), bookmarks included, once the server has taken the request.

        The iterator ends when the server ends it, with Unavailable when nothing came for `silence_s`, and
        with Gone when `version` is too old.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "labelSelector": selector,
            "timeoutSeconds": str(random.randint(*_WATCH_S)),
        }
        limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=silence_s)
        response = await self._send(Call("watch", resource), namespace, query=query, limit=limit)
        try:
            yield self._events(response, f"watch {resource.plural}")
        finally:
            response.close()

    async def create(self, resource: Resource, manifest: Object) -> Object:
        """Raises AlreadyExists, Forbidden, Invalid."""
        namespace = manifest["metadata"].get("namespace", "")
        query = {"fieldManager": self._agent}
        return await self._answer(Call("create", resource), namespace, query=query, body=manifest)

    async def patch(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        """JSON merge patch. With a resourceVersion in its metadata, raises Conflict for any other."""
        query = {"fieldManager": self._agent}
        return await self._answer(Call("patch", resource), namespace, name, query=query, body=body)

    async def replace_status(self, resource: Resource, found: Object, status: Object) -> Object:
        """The whole status of the object as it was `found`; Conflict if the name is another object's by now, or
        it was written since: what was decided about it is of old news."""
        meta = found["metadata"]
        operations: list[Object] = [
            {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
            {"op": "test", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        query, call = {"fieldManager": self._agent}, Call("patch", resource, "status")
        return await self._answer(call, meta["namespace"], meta["name"], query=query, body=operations)

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, propagation: str = "Background"
    ) -> Object:
        """Only the object with that uid; raises Conflict for another one of the name."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        return await self._answer(Call("delete", resource), namespace, name, body=body)

    async def _answer(
        self,
        call: Call,
        namespace: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Object | list[Object] | None = None,
    ) -> Object:
        response = await self._send(call, namespace, name, query=query, body=body)
        try:
            answer: Object = orjson.loads(await response.read())
            if not isinstance(answer.get("metadata"), dict):
                raise ValueError("the answer is no Kubernetes object")
        except (aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
            raise _no_answer(_doing(call, namespace, name), error) from error
        return answer

    async def _send(
        self,
        call: Call,
        namespace: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Object | list[Object] | None = None,
        limit: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        """The response, body not yet read; ApiError unless it is a success."""
        if call not in self._calls:
            raise ValueError(f"{call!r} is not in CALLS: the controller has no right to it")
        doing, started = _doing(call, namespace, name), time.monotonic()
        content = (
            (_JSON_PATCH if isinstance(body, list) else _MERGE)
            if call.verb == "patch"
            else "application/json"
        )
        result = "ok"
        try:
            request = await self._connection.param_serialize(
                _METHODS[call.verb],
                call.resource.path(namespace, name, call.subresource),
                query_params=[(key, value) for key, value in (query or {}).items() if value],
                header_params={
                    "Accept": "*/*" if call.subresource == "log" else "application/json",
                    "Content-Type": content,
                },
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._connection.call_api(*request, _request_timeout=limit or self._limit)
            if answer.status >= 300:
                raise translate(answer.status, doing, await answer.response.read(), answer.headers)
        except ApiError as error:
            result, error.call = type(error).__name__, call
            raise
        except (aiohttp.ClientError, OSError, config.ConfigException) as error:
            # TimeoutError is an OSError.
            result = Unavailable.__name__
            raise _no_answer(doing, error) from error
        finally:
            self._on_call(call.verb, call.resource.plural, result, time.monotonic() - started)
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _events(
        self, response: aiohttp.ClientResponse, doing: str
    ) -> AsyncIterator[tuple[str, Object]]:
        try:
            async for line in response.content:
                event = orjson.loads(line)
                kind, found = event["type"], event["object"]
                if kind == "ERROR":
                    raise translate(int(found.get("code") or 500), doing, orjson.dumps(found))
                yield kind, found
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            raise _no_answer(doing, error) from error


def _doing(call: Call, namespace: str, name: str) -> str:
    """For people: `create jobs team-a/quickstart-ab12-plan`."""
    what = call.resource.plural + (f"/{call.subresource}" if call.subresource else "")
    where = "/".join(part for part in (namespace, name) if part)
    return f"{call.verb} {what} {where}".rstrip()


def _no_answer(doing: str, error: Exception) -> Unavailable:
    words = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return Unavailable(f"can't {doing}: {words}")
