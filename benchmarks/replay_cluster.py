"""The controller's order of things by a simulated clock: `k8s.decide` makes Jobs, their pods take as long as said.

    World (a cluster in memory) --decide--> Jobs --indexes in order, as compilers and cards are free--> the end

A compile pod makes the binaries that its lot is the first to need, one after the other. Pods start at once;
plan, export and merge take no time.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from k8s import names
from tests.k8s.world import START, World

MERGED = {"table": "tables/t", "wanted": 0, "counts": {"ok": 1}, "device_s": {}}


@dataclass(frozen=True)
class Work:
    """Seconds of each lot's compile pod and measure pod; the first `canary` lots are the canary."""

    compile_s: Sequence[float]
    measure_s: Sequence[float]
    canary: int

    def plan(self) -> dict[str, Any]:
        """What the plan pod says."""
        lots = len(self.measure_s)
        counts = dict.fromkeys(("binaries", "cells", "slots", "todo", "wanted"), lots)
        return {
            "plan": "a" * 32, "round": 1, "lots": lots, "canary": self.canary, "exports": 0, "unfit": 0, **counts,
            "most_slots_a_lot": 1, "device_s": sum(self.measure_s), "compile_s": sum(self.compile_s),
            "lots_per_node": lots,
        }  # fmt: skip


def makespan_s(work: Work, cards: int, compilers: int, *, wide: bool = False) -> float:
    """Until the last lot is measured, with `limits.parallelism` as large as the number of cards. `wide`: as if it
    did not limit compile Jobs too."""
    world = World([work.plan()], [MERGED], limits={"parallelism": cards, "maxDeviceHours": 10_000})
    room = {names.COMPILE: compilers, names.MEASURE: cards}
    seconds = {names.COMPILE: work.compile_s, names.MEASURE: work.measure_s}
    begun: dict[str, int] = {}
    done: dict[str, list[int]] = {}
    running: list[tuple[float, str, int]] = []
    now_s = 0.0
    while True:
        world.passes()
        others = [job for job in world.unfinished() if world.stage(job) not in room]
        if others:
            world.finish(others[0]["metadata"]["name"])
            continue
        for job in world.unfinished(*room):
            name, stage, spec = job["metadata"]["name"], world.stage(job), job["spec"]
            at_once = compilers if wide and stage == names.COMPILE else spec["parallelism"]
            while (
                room[stage]
                and begun.get(name, 0) < spec["completions"]
                and begun.get(name, 0) - len(done.get(name, ())) < at_once
            ):
                index = begun.get(name, 0)
                begun[name] = index + 1
                room[stage] -= 1
                heapq.heappush(running, (now_s + seconds[stage][_first_lot(job) + index], name, index))
        if not running:
            return now_s
        now_s, name, index = heapq.heappop(running)
        world.now = START + timedelta(seconds=now_s)
        done.setdefault(name, []).append(index)
        job = world.jobs[name]
        room[world.stage(job)] += 1
        if len(done[name]) == job["spec"]["completions"]:
            world.finish(name)
        else:
            job["status"]["completedIndexes"] = ",".join(map(str, sorted(done[name])))
            left = min(job["spec"]["parallelism"], job["spec"]["completions"] - len(done[name]))
            job["status"].update(active=left, ready=left)


def _first_lot(job: Mapping[str, Any]) -> int:
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return next(int(one["value"]) for one in environment if one["name"] == "AICSWEEP_FIRST")
