"""Waves on devices: that they are used, and never more of them than is allowed."""

from __future__ import annotations

import copy
import heapq
import random
from datetime import timedelta
from typing import Any

import pytest

from k8s import names
from k8s.measuring import OPEN_WAVES, WIDENINGS
from tests.k8s.world import World


class Devices:
    """Lots of the world's measure Jobs run as Kubernetes runs them: as many of a Job at once as its parallelism
    says. `busy_s`: device seconds in use; `most`: devices in use at once; `lots` that ended, by Job, and the
    `parallelism` that it had."""

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._random = world, random.Random(seed)
        self._running: list[tuple[float, str]] = []
        self._started: dict[str, int] = {}
        self.lots: dict[str, int] = {}
        self.now_s = self.busy_s = 0.0
        self.most = 0
        self.parallelism: dict[str, set[int]] = {}

    def run(self) -> None:
        """Until no measure Job is open."""
        while True:
            self._world.passes()
            self._start()
            if not self._running:
                break
            at_s, name = heapq.heappop(self._running)
            self._world.now += timedelta(seconds=at_s - self.now_s)
            self.now_s = at_s
            self._end(name)

    def _start(self) -> None:
        for job in self._world.unfinished(names.MEASURE):
            name, spec = job["metadata"]["name"], job["spec"]
            self.parallelism.setdefault(name, set()).add(spec["parallelism"])
            while self._held(name) < spec["parallelism"] and self._started.get(name, 0) < spec["completions"]:
                takes_s = self._random.uniform(400, 800)
                heapq.heappush(self._running, (self.now_s + takes_s, name))
                self._started[name] = self._started.get(name, 0) + 1
                self.busy_s += takes_s
            job["status"].update(active=self._held(name), ready=self._held(name))
        self.most = max(self.most, len(self._running))

    def _end(self, name: str) -> None:
        self.lots[name] = self.lots.get(name, 0) + 1
        job = self._world.jobs[name]
        if self.lots[name] == job["spec"]["completions"]:
            self._world.finish(name)
        else:
            job["status"]["completedIndexes"] = ",".join(map(str, range(self.lots[name])))

    def _held(self, name: str) -> int:
        return self._started.get(name, 0) - self.lots.get(name, 0)


def test_never_more_than_two_waves_are_open() -> None:
    """However many of their lots have ended."""
    limits = {"parallelism": PARALLELISM, "maxDeviceHours": 10_000}
    at = World([PLAN], [{"table": "t", "wanted": 0}], limits=limits)
    at.passes()
    at.finish(at.created[0])
    for _ in range(20):
        at.passes()
        for job in at.unfinished(names.MEASURE):
            # All but one.
            most = job["spec"]["completions"]
            job["status"].update(completedIndexes=",".join(map(str, range(most - 1))), active=1, ready=1)
    assert len(at.unfinished(names.MEASURE)) == OPEN_WAVES


@pytest.mark.parametrize("fields", [{"parallelism": 1}, {"parallelism": 9}, {"suspend": True}])
def test_what_kueue_writes_is_left_alone(fields: dict[str, Any]) -> None:
    """It admits part of a Job's pods, takes them back, and suspends it."""
    limits = {"parallelism": PARALLELISM, "maxDeviceHours": 10_000}
    at = World([PLAN], [{"table": "t", "wanted": 0}], limits=limits, pods={"queueName": "cards"})
    at.passes()
    at.finish(at.created[0])
    at.passes()
    (job,) = at.unfinished(names.MEASURE)
    job["spec"].update(fields)
    job["status"].update(completedIndexes="0-3", active=0, ready=0)
    before = copy.deepcopy(job["spec"])
    at.passes()
    assert job["spec"] == before
    assert len(at.unfinished(names.MEASURE)) == 1


LOTS, PARALLELISM = 400, 16
PLAN = {
    "plan": "a" * 32, "lots": LOTS, "exports": 0, "binaries": 0, "slots": LOTS, "todo": LOTS, "most_slots_a_lot": 1,
    "device_s": 600.0 * LOTS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("pods", "least_busy", "widenings"), [({}, 0.95, WIDENINGS + 1), ({"queueName": "cards"}, 0.85, 0)]
)
def test_devices_are_in_use_from_wave_to_wave(
    pods: dict[str, str], least_busy: float, widenings: int
) -> None:
    """Also in a queue of Kueue, where the parallelism of a Job is never written after its creation."""
    limits = {"parallelism": PARALLELISM, "maxDeviceHours": 10_000}
    at = World([PLAN], [{"table": "t", "wanted": 0}], limits=limits, pods=pods)
    at.passes()
    at.finish(at.created[0])
    devices = Devices(at, seed=1)
    devices.run()
    assert sum(devices.lots.values()) == LOTS
    assert devices.most == PARALLELISM
    # The end counts too, where nothing is left to begin.
    assert devices.busy_s / (devices.now_s * PARALLELISM) > least_busy
    assert max(len(seen) for seen in devices.parallelism.values()) <= 1 + widenings
