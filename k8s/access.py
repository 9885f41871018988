"""Of which cluster and namespace the kubectl plugin asks, and what a refusal means to the person who asked.

    --kubeconfig, --context, -n, KUBECONFIG --> Where --`access`--> Access --(api)--> API server

Everything is asked with that person's own rights.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from k8s import names, picture
from k8s.api import Api, Object, connect, namespace_of
from k8s.api_errors import ApiError, Conflict, Forbidden, LoggedOut, NotFound, Unavailable
from k8s.resources import JOBS, NODES, PLUGIN_CALLS, PODS, SWEEPS, Resource
from runner.errors import BadInput, Infrastructure, Problem
from runner.spec import MAX_AGAIN, Again

AGENT = "kubectl-aicsweep"
_DEFAULT_FILE = Path("~/.kube/config")
# So often a change is made anew that somebody else's has overtaken: the controller writes the status now and then.
_CONFLICTS = 10


@dataclass(frozen=True)
class Where:
    """As given on the command line; empty is what kubectl would take."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    request_s: float = 30.0

    @property
    def files(self) -> str:
        """The kubeconfig, or several as KUBECONFIG has them; "" where only the pod's own account is left."""
        default = _DEFAULT_FILE.expanduser()
        return (
            self.kubeconfig or os.environ.get("KUBECONFIG", "") or (str(default) if default.is_file() else "")
        )


@asynccontextmanager
async def access(where: Where) -> AsyncIterator[Access]:
    """The way to the cluster. What the API server refuses within becomes an error for people."""
    namespace = where.namespace or namespace_of(where.files, where.context)
    async with connect(
        kubeconfig=where.files,
        context=where.context,
        request_s=where.request_s,
        calls=PLUGIN_CALLS,
        agent=AGENT,
    ) as api:
        try:
            yield Access(api, namespace)
        except ApiError as error:
            raise explained(error, namespace) from error


class Access:
    """What the plugin reads, in one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    async def sweep(self, name: str) -> Object:
        """Raises BadInput with the nearest names where there is none of that name."""
        try:
            return await self.api.get(SWEEPS, self.namespace, name)
        except NotFound as error:
            if _not_served(error):
                raise
            known = await self.sweep_names()
        near = difflib.get_close_matches(name, known, 3)
        if near:
            remedy = f"did you mean {' or '.join(near)}?"
        elif known:
            more = ", ..." if len(known) > 10 else ""
            remedy = f"there are {', '.join(known[:10])}{more}"
        else:
            remedy = "there is none in this namespace; -n names another, `kubectl get sweeps -A` lists all"
        raise BadInput([Problem(f"Sweep {name}", f"is not in namespace {self.namespace}", remedy)])

    async def sweep_names(self) -> list[str]:
        return [found["metadata"]["name"] for found in await self._all(SWEEPS)]

    async def jobs(self, sweep: Object | None = None) -> list[Object]:
        """Those of the Sweep, or of all Sweeps of the namespace."""
        selector = _of(sweep) if sweep else f"{names.MANAGED_BY}={names.MANAGER}"
        return await self._all(JOBS, selector=selector)

    async def pods(self, sweep: Object, *, at_work: bool = False) -> list[Object]:
        """Those of the Sweep; `at_work` leaves out those that ended, of which there may be thousands."""
        fields = "status.phase!=Succeeded,status.phase!=Failed" if at_work else ""
        return await self._all(PODS, selector=_of(sweep), fields=fields)

    async def nodes(self) -> list[Object]:
        return [found async for page, _ in self.api.pages(NODES) for found in page]

    async def all_pods(self) -> list[Object] | None:
        """Those at work in all namespaces, or None where that may not be read."""
        fields = "status.phase!=Succeeded,status.phase!=Failed"
        try:
            return [found async for page, _ in self.api.pages(PODS, fields=fields) for found in page]
        except Forbidden:
            return None

    async def suspend(self, name: str, suspend: bool) -> Object:
        await self.sweep(name)
        return await self.api.patch(SWEEPS, self.namespace, name, {"spec": {"suspend": suspend}})

    async def ask_again(self, name: str, request: Again) -> Object:
        """The Sweep with one more request to measure again. Raises BadInput where it holds no more of them,
        Infrastructure where the cluster does not know what a request is."""
        entry = request.model_dump()
        for _ in range(_CONFLICTS):
            sweep = await self.sweep(name)
            body = {
                # The list is replaced as a whole: not if somebody else has just asked too.
                "metadata": {"resourceVersion": sweep["metadata"]["resourceVersion"]},
                "spec": {"again": with_request(sweep, entry)},
            }
            try:
                written = await self.api.patch(SWEEPS, self.namespace, name, body)
            except Conflict:
                continue
            if entry not in written["spec"].get("again", ()):
                remedy = "helm upgrade; the CRD alone: kubectl apply -f k8s/crd/sweeps.aicsweep.dev.yaml"
                raise Infrastructure("this cluster's Sweeps know no `again` yet", remedy=remedy)
            return written
        raise Infrastructure(f"Sweep {name} is changed all the time by others", remedy="try it again")

    async def _all(self, resource: Resource, *, selector: str = "", fields: str = "") -> list[Object]:
        pages = self.api.pages(resource, namespace=self.namespace, selector=selector, fields=fields)
        return [found async for page, _ in pages for found in page]


def with_request(sweep: Object, entry: Object) -> list[Object]:
    """Pure. `spec.again` with one more. Where it is full, the oldest goes: what was planned has chosen its slots,
    and lies in the store. Raises BadInput where nothing of the spec as it is was planned."""
    before = sweep["spec"].get("again", [])
    if len(before) < MAX_AGAIN:
        return [*before, entry]
    if not (sweep.get("status") or {}).get("planDigest") or not picture.is_current(sweep):
        message = f"holds {MAX_AGAIN} requests that are not planned yet"
        raise BadInput([Problem("spec.again", message, "wait until they are: `kubectl aicsweep status`")])
    return [*before[1 - MAX_AGAIN :], entry]


def _of(sweep: Object) -> str:
    return f"{names.LABEL_UID}={sweep['metadata']['uid']}"


def _not_served(error: ApiError) -> bool:
    """The server does not know the kind of object: its answer is no Status object."""
    return isinstance(error, NotFound) and "page not found" in error.message


def explained(error: ApiError, namespace: str) -> Infrastructure:
    """Pure. The same for the person at the terminal."""
    call = error.call
    if _not_served(error):
        remedy = "install helm/aicsweep; its CRD alone: kubectl apply -f k8s/crd/sweeps.aicsweep.dev.yaml"
        return Infrastructure("this cluster knows no Sweeps", remedy=remedy, reason="not-installed")
    if isinstance(error, Forbidden) and call and " cannot " in error.message:
        where = f" -n {namespace}" if call.resource.namespaced else ""
        place = f" in namespace {namespace}" if call.resource.namespaced else ""
        what, _, sub = str(call).partition(" --subresource=")
        right = f"{what}/{sub}" if sub else what
        ask = f"kubectl auth can-i {call}{where}"
        remedy = f"ask whoever runs the cluster for that right; `{ask}` tells whether you have it"
        return Infrastructure(f"you may not {right}{place}", remedy=remedy, reason="forbidden")
    if isinstance(error, LoggedOut):
        remedy = "log in anew; `kubectl config view --minify` shows which user this is"
        return Infrastructure("the cluster refuses your credentials", remedy=remedy, reason="logged-out")
    if isinstance(error, Unavailable):
        remedy = "is the cluster up, and this the right one? `kubectl cluster-info` asks it, --context names another"
        return Infrastructure(error.message, remedy=remedy, reason="unavailable")
    return error
