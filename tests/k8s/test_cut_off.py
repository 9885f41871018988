"""A controller killed at any of its writes: the next one ends what it began."""

from __future__ import annotations

import asyncio
from typing import Any

from k8s import names, prune
from k8s.api import Api
from k8s.events import Teller
from k8s.reconcile import Reconciler
from k8s.resources import JOBS, SWEEPS
from k8s.watch import Cache
from tests.k8s.desk import KEY, NOW, pod
from tests.k8s.standin import StandIn, api_of, standing_in
from tests.k8s.world import DEFAULTS, sweep

PLAN = {"plan": "a" * 32, "lots": 6, "canary": 2, "exports": 1, "binaries": 6, "cells": 12, "slots": 12, "unfit": 0,
        "todo": 12, "most_slots_a_lot": 2, "device_s": 60.0, "compile_s": 60.0}  # fmt: skip
MERGED = {"table": "tables/t", "wanted": 0, "counts": {"ok": 12}, "device_s": {"measuring": 60.0}}


class CutOff(Exception):
    """The process was killed."""


class Flow:
    """A Sweep whose Jobs end as soon as nothing else happens, and controllers that are killed at the `cut`-th
    write: before the server got it, or after."""

    def __init__(self, server: StandIn, api: Api, cut: int, after: bool) -> None:
        self.server, self.api, self.after = server, api, after
        self.writes_left = cut
        self.kills = 0

    async def controller(self) -> None:
        """From empty caches until there is nothing to do."""
        sweeps, jobs = Cache(prune.sweep), Cache(prune.job)
        reconcile = Reconciler(
            self.api, sweeps, jobs, Teller(self.api, "me"), DEFAULTS, lambda: True, now=lambda: NOW
        )
        for _ in range(50):
            await sweeps.replace(self.api.pages(SWEEPS))
            await jobs.replace(self.api.pages(JOBS))
            before = self.server.version
            again_s = await reconcile(KEY)
            if self.server.version == before and again_s != 0:
                return
        raise AssertionError("never at rest")

    def cut(self) -> None:
        original = self.api._send

        async def send(call: Any, *args: Any, **kwargs: Any) -> Any:
            if call.verb in ("create", "patch", "delete"):
                self.writes_left -= 1
                if self.writes_left == 0:
                    self.kills += 1
                    if self.after:
                        await original(call, *args, **kwargs)
                    raise CutOff
            return await original(call, *args, **kwargs)

        self.api._send = send  # type: ignore[method-assign]

    async def end_a_job(self) -> bool:
        for (plural, *_), found in list(self.server.objects.items()):
            if plural == "jobs" and not found.get("status", {}).get("conditions"):
                stage = found["metadata"]["labels"][names.LABEL_STAGE]
                said = {names.PLAN: PLAN, names.MERGE: MERGED}.get(stage, {})
                await self.server.put("pods", pod(found, f"{found['metadata']['name']}-pod", **said))
                count = found["spec"].get("completions", 1)
                found["status"] = {
                    "succeeded": count,
                    "completedIndexes": f"0-{count - 1}",
                    "conditions": [
                        {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                    ],
                }
                await self.server.put("jobs", found)
                return True
        return False

    async def to_the_end(self) -> None:
        self.cut()
        while True:
            try:
                await self.controller()
            except CutOff:
                continue
            if not await self.end_a_job():
                return


async def flow(cut: int, after: bool) -> tuple[set[str], Any, Flow]:
    async with standing_in() as server, api_of(server) as api:
        await server.put("sweeps", sweep(limits={"parallelism": 1}))
        run = Flow(server, api, cut, after)
        await run.to_the_end()
        jobs = {name for plural, _, name in server.objects if plural == "jobs"}
        return jobs, server.objects["sweeps", "bench", "cnn"]["status"], run


def test_killed_at_any_write_the_next_one_ends_what_it_began() -> None:
    async def all_of_them() -> int:
        undisturbed, status, run = await flow(0, after=False)
        writes = -run.writes_left
        assert status["phase"] == "Complete"
        for cut in range(1, writes + 1):
            for after in (False, True):
                jobs, ended, run = await flow(cut, after)
                assert run.kills == 1
                assert jobs == undisturbed
                assert ended == status
        return writes

    # Every write of the flow: Jobs, statuses, events.
    assert asyncio.run(all_of_them()) >= 14
