"""What every case has: a cluster, a rig on it, controllers as processes, and pods that end as a case wants it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.cluster.watch import Timeline
from k8s import names
from tests.cluster import program
from tests.cluster.cluster import Cluster, until
from tests.cluster.program import Program
from tests.cluster.rig import Rig

NAMESPACE = "bench"
PATIENCE_S = 1800.0

Spec = Mapping[str, Any]


class Stage:
    """Sweeps of the namespace `bench`, on which one controller acts at a time."""

    def __init__(self, cluster: Cluster, rig: Rig, folder: Path) -> None:
        self.cluster, self.rig, self._folder = cluster, rig, folder
        self.timeline = Timeline.of_all(rig)
        self._controllers = self._sweeps = 0

    # -- controllers

    def start(self, **settings: str) -> Program:
        """One, that leads when it can. The Lease is short: for most cases it is in the way only."""
        self._controllers += 1
        store = str(self.rig.store(NAMESPACE))
        given = {"store": store, "lease_namespace": NAMESPACE, "lease_s": "4", **settings}
        return program.start(
            self.cluster.kubeconfig, self._folder, f"controller-{self._controllers}", **given
        )

    @contextmanager
    def controller(self, **settings: str) -> Iterator[Program]:
        """One that leads; killed in the end."""
        started = self.start(**settings)
        try:
            until(started.led_at)
            yield started
        finally:
            started.end(9)

    # -- Sweeps

    def apply(self, spec: Spec) -> str:
        """A new one; its name."""
        self._sweeps += 1
        name = f"s-{self._sweeps}"
        self.rig.apply(NAMESPACE, name, **spec)
        return name

    def wait(self, name: str) -> None:
        """Until it is Complete."""
        self.rig.wait(NAMESPACE, name, timeout_s=PATIENCE_S)

    def states(self, name: str) -> list[dict[str, Any]]:
        """All that were seen of a Sweep."""
        return self.rig.said(NAMESPACE, name)

    def first_job_s(self, name: str, since: float) -> float:
        """Seconds from `since`, of `time.time`, to its plan Job, which is waited for."""
        uid = self.states(name)[-1]["metadata"]["uid"]
        until(lambda: self.timeline.of(uid))
        return min(job.made_at for job in self.timeline.of(uid).values()) - since

    def later_jobs_s(self, name: str) -> list[float]:
        """For each of its other Jobs: seconds since the last of what permits it."""
        return self.timeline.later_s(self.states(name)[-1]["metadata"]["uid"])

    # -- pods

    def play_all(self) -> None:
        """The programs of all pods run."""
        self.rig.shim.instead.clear()

    def plan(self, spec: Spec) -> dict[str, Any]:
        """What a real plan pod says of such a Sweep; the Sweep is deleted again."""
        self.play_all()
        name = self.apply(spec)
        until(lambda: self._message(name, names.PLAN), timeout_s=PATIENCE_S)
        found: dict[str, Any] = json.loads(self._message(name, names.PLAN))
        self.rig.delete(NAMESPACE, name)
        return found

    def play_plans(self, plan: Mapping[str, Any]) -> None:
        """The programs of plan pods run, all others end at once as if all of `plan` had been measured well."""
        counts = {"ok": plan["slots"], "unfit": plan["unfit"]}
        merged = {"table": "tables/none", "wanted": 0, "counts": counts, "device_s": {"measuring": 1.0}}
        self.play_all()
        for stage in (names.EXPORT, names.COMPILE, names.MEASURE):
            self.rig.shim.instead[stage] = lambda pod: ""
        self.rig.shim.instead[names.MERGE] = lambda pod: json.dumps(merged)

    def play_none(self, plan: Mapping[str, Any]) -> None:
        """Plan pods too end at once, as if they had planned `plan`."""
        self.play_plans(plan)
        self.rig.shim.instead[names.PLAN] = lambda pod: json.dumps(plan)

    def _message(self, name: str, stage: str) -> str:
        """A pod's last words, or nothing yet."""
        pods = [pod for pod in self.rig.pods(NAMESPACE, stage) if _of(pod, name)]
        states = [state["state"] for pod in pods for state in pod["status"].get("containerStatuses", ())]
        return next((state["terminated"]["message"] for state in states if "terminated" in state), "")

    def wait_gone(self, name: str) -> None:
        """Until no pod of it is left."""
        until(lambda: not any(_of(pod, name) for pod in self.rig.pods(NAMESPACE)), timeout_s=PATIENCE_S)


def _of(pod: Mapping[str, Any], name: str) -> bool:
    return bool(pod["metadata"]["labels"][names.LABEL_SWEEP] == name)
