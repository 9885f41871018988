"""A Sweep on a stand-in of the server, and a reconciler before it."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from k8s import names, prune
from k8s.actions import Decision, Event
from k8s.api import Api, Object
from k8s.events import Teller
from k8s.observe import Observed
from k8s.reconcile import Reconciler
from k8s.watch import Cache
from tests.k8s.standin import StandIn, api_of, standing_in
from tests.k8s.world import DEFAULTS, sweep

KEY = ("bench", "cnn")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLANNING = {"phase": "Planning", "conditions": []}


def job(
    name: str, *, uid: str = "", owner: str = "u-1", stage: str = names.PLAN, ended: bool = False
) -> Object:
    conditions = [{"type": "Complete", "status": "True"}] if ended else []
    return {
        "metadata": {
            "namespace": "bench",
            "name": name,
            "uid": uid or f"uid-{name}",
            "labels": {names.MANAGED_BY: names.MANAGER, names.LABEL_STAGE: stage},
            "ownerReferences": [{"kind": "Sweep", "name": "cnn", "uid": owner, "controller": True}],
        },
        "spec": {},
        "status": {"conditions": conditions},
    }


def pod(of: Object, name: str, **message: Any) -> Object:
    ended = {"terminated": {"exitCode": 0, "message": json.dumps(message)}}
    return {
        "metadata": {
            "namespace": "bench",
            "name": name,
            "uid": f"uid-{name}",
            "labels": {
                "batch.kubernetes.io/job-name": of["metadata"]["name"],
                "batch.kubernetes.io/controller-uid": of["metadata"]["uid"],
            },
        },
        "spec": {},
        "status": {"phase": "Succeeded", "containerStatuses": [{"name": "aicsweep", "state": ended}]},
    }


class Desk:
    """A Sweep on a server, a reconciler before it, and what the decision will be."""

    def __init__(self, server: StandIn, api: Api, reconciler: Callable[..., Reconciler]) -> None:
        self.server, self.api = server, api
        self.sweeps, self.jobs = Cache(prune.sweep), Cache(prune.job)
        self.decision = Decision(PLANNING)
        self.leading = True
        self.seen: list[Observed] = []
        self.reconcile = reconciler(
            api, self.sweeps, self.jobs, Teller(api, "me"), DEFAULTS, lambda: self.leading, decide=self.decide
        )

    def decide(self, sweep: Any, seen: Observed, *_: Any) -> Decision:
        self.seen.append(seen)
        return copy.deepcopy(self.decision)

    async def has(self, plural: str, found: Object) -> Object:
        """It is on the server, and in the cache if there is one."""
        found = await self.server.put(plural, found)
        cache = {"sweeps": self.sweeps, "jobs": self.jobs}.get(plural)
        if cache is not None:
            cache.seen("ADDED", found)
        return found

    async def passes(self, *actions: Any, events: tuple[Event, ...] = (), **more: Any) -> float | None:
        self.decision = Decision(PLANNING, list(actions), list(events), **more)
        return await self.reconcile(KEY)

    def on_server(self, plural: str = "sweeps", name: str = "cnn") -> Any:
        return self.server.objects.get((plural, "bench", name))

    def status(self) -> Any:
        return self.on_server()["status"]

    def condition(self, name: str = "Progressing") -> Any:
        return next(c for c in self.status()["conditions"] if c["type"] == name)

    def told(self) -> list[str]:
        return [found["reason"] for (plural, *_), found in self.server.objects.items() if plural == "events"]


@asynccontextmanager
async def at_desk(**spec: Any) -> AsyncIterator[Desk]:
    async with standing_in() as server, api_of(server) as api:
        desk = Desk(server, api, Reconciler)
        await desk.has("sweeps", sweep(**spec))
        yield desk
