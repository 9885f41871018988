"""A Sweep of made-up numbers on real nodes, to be struck while it is measured; and what is right at its end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from runner import engine
from tests.cluster.cluster import until
from tests.cluster.oracle import differences, results, undisturbed
from tests.nodes.bench import Bench
from tests.nodes.witness import Witness, witness

SMALL: dict[str, Any] = {
    "build": {"cpu": 1, "memory": "4Gi"},
    "measure": {"cpu": 1, "memory": "1Gi"},
    "shmSize": "64Mi",
}
# Eight cells of two seconds each (as the images have the fake backend sleep) in a lot a model, measured at once. Each
# pod exports and compiles for itself, which takes it no time: a plan pod, two that measure, and a merge pod.
SWEEP: dict[str, Any] = {
    "backend": "fake",
    "models": ["resnet50", "mobilenet_v2"],
    "objectives": ["best-throughput"],
    "grid": {"cores": [1, 2, 7, 14], "instances": ["fill"]},
    "limits": {"lotMinutes": 10, "parallelism": 2},
    "execution": "combined",
    "pods": SMALL,
}
NAME = "it"


class Play:
    """The Sweep `it` of a namespace, beside its controller; `witness` hears what its status says."""

    def __init__(self, bench: Bench, namespace: str, witness: Witness) -> None:
        self.bench, self.namespace, self._witness = bench, namespace, witness
        self._spec: dict[str, Any] = {}

    def apply(self, **spec: Any) -> None:
        """By default SWEEP."""
        self._spec = {**SWEEP, **spec}
        self.bench.apply(self.namespace, NAME, **self._spec)

    def measured(self) -> Any:
        """A pod that measures, once there is one."""

        def running() -> Any:
            pods = self.bench.pods(self.namespace, "measure")
            return next((pod for pod in pods if pod["status"]["phase"] == "Running"), None)

        return until(running, "no pod measures", timeout_s=240)

    def pod(self, name: str) -> Any:
        return self.bench.cluster.get("pod", name, "-n", self.namespace)

    def status(self) -> Any:
        return self.bench.sweep(self.namespace, NAME).get("status", {})

    def exec(self, pod: str, *command: str) -> None:
        """In the pod; how the command ends does not matter, the kernel may end it."""
        arguments = ["exec", pod, "-n", self.namespace, "--", *command]
        subprocess.run(
            [str(self.bench.cluster.programs["kubectl"]), *arguments],
            env=self.bench.cluster.environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip

    def freeze(self, pod: Any) -> None:
        """All its processes, for ever: they hear no signal but the last."""
        uid = pod["metadata"]["uid"]
        found = [process for process in psutil.process_iter() if _pod_of(process) == uid]
        assert found, "the pod has no process"
        for process in found:
            os.kill(process.pid, signal.SIGSTOP)

    def ends_well(self, *, timeout_s: float = 420) -> None:
        """The oracle: Complete, with the table of an undisturbed run; no result is there twice; no pod is left; and
        the status has never said what was not so."""
        self.bench.wait(self.namespace, NAME, timeout_s=timeout_s)
        self.never_lied()
        wanted = {name: value for name, value in self._spec.items() if name != "pods"}
        differ = differences(results(self.bench.table(self.namespace, NAME)), undisturbed(**wanted))
        assert not differ, differ
        slots = engine.read_results(self.bench.home(self.namespace, NAME)).table["slot"].to_pylist()
        assert len(slots) == len(set(slots)), slots
        phases = lambda: {pod["status"]["phase"] for pod in self.bench.pods(self.namespace)}  # noqa: E731
        until(lambda: phases() <= {"Succeeded", "Failed"}, "a pod is left", timeout_s=150)

    def never_lied(self) -> None:
        """The status has said nothing that was not so, up to what it says now."""
        lies = self._witness.lies_until(self.bench.sweep(self.namespace, NAME)["metadata"]["resourceVersion"])
        assert not lies, lies


@contextmanager
def playing(bench: Bench, namespace: str) -> Iterator[Play]:
    """With a controller of its own, and a witness of what the status says, who is asked at the end."""
    kubectl = str(bench.cluster.programs["kubectl"])
    watch = [kubectl, "get", "sweeps", "--watch", "-o", "json", "-n", namespace]
    with bench.controller(namespace), witness(watch, bench.cluster.environment()) as heard:
        play = Play(bench, namespace, heard)
        yield play
        play.never_lied()


def _pod_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("AICSWEEP_POD", "")
    except psutil.Error:
        return ""
