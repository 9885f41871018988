"""Pods without a cluster: each a process of its own that runs `aicsweep pod STAGE` with the environment that the
controller would give it. Forked from a server that has imported all (`pod_server`), so that a pod starts at once."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner import engine, tables
from runner.plan import Plan, key, read_plan
from runner.segments import Results
from runner.store import open_store

PREFIX = "sweeps/test/bench/sample/1"
LIMIT_S = 120.0
REPOSITORY = Path(__file__).parent.parent


@functools.cache
def _server() -> subprocess.Popen[str]:
    """One for all tests; it ends when this process does, and with it its end of the pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.pod_server"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _ask(order: Mapping[str, Any]) -> Any:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    print(json.dumps(order), file=server.stdin, flush=True)
    return json.loads(server.stdout.readline())


@dataclass(frozen=True)
class Ended:
    """How a pod ended: exit code (negative: the signal that killed it), message (None: it left none), log."""

    code: int
    message: Mapping[str, Any] | None
    log: str


class Program:
    """`aicsweep` that runs, with a log for all it says."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        full = {**os.environ, **environment}
        self._pid: int = _ask({"arguments": list(arguments), "environment": full, "log": str(log)})

    def wait_for(self, words: str) -> None:
        """Until its log holds `words`."""
        deadline = time.monotonic() + LIMIT_S
        while words not in self.log:
            assert _ask({"poll": self._pid}) is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        """(Its pid is its own until it was waited for.)"""
        os.kill(self._pid, number)

    def code(self) -> int:
        """Its exit code, once it has ended; negative: the signal."""
        code: int = _ask({"wait": self._pid})
        return code

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


class Pod(Program):
    """A pod that runs."""

    def __init__(self, folder: Path, stage: str, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self._message = folder / "message"
        full = {**environment, "AICSWEEP_TERMINATION_LOG": str(self._message)}
        super().__init__(["pod", stage], full, folder / "log")

    def terminate(self) -> None:
        """SIGTERM, as the kubelet sends it."""
        self.signal(signal.SIGTERM)

    def end(self) -> Ended:
        code = self.code()
        text = self._message.read_text() if self._message.exists() else None
        assert text is None or len(text.encode()) <= 1024
        return Ended(code, None if text is None else json.loads(text), self.log)


class Cluster:
    """Runs the pods of one Sweep; `store` is its URL, `fake` what AICSWEEP_FAKE says."""

    def __init__(self, folder: Path, store: str = "", **spec: Any) -> None:
        self.folder, self.store = folder, store or str(folder / "store")
        self.fake: dict[str, Any] = {}
        self.spec = {"backend": "fake", "models": ["resnet50", "mobilenet_v2"], **spec}
        self.plan: Mapping[str, Any] = {}
        self._pods = 0

    @property
    def home(self) -> Any:
        return open_store(self.store).at(PREFIX)

    @property
    def planned(self) -> Plan:
        return read_plan(self.home.get(key(self.plan["plan"])))

    def start(self, stage: str, **environment: Any) -> Pod:
        """Start a pod of a new uid."""
        self._pods += 1
        uid = f"pod-{self._pods}-{stage}"
        given = {
            "AICSWEEP_STORE": self.store,
            "AICSWEEP_PREFIX": PREFIX,
            "AICSWEEP_POD": uid,
            "AICSWEEP_NODE": "node-a",
            "AICSWEEP_PLAN": self.plan.get("plan", ""),
            "AICSWEEP_FAKE": json.dumps(self.fake),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            **{
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in environment.items()
            },
        }
        return Pod(self.folder / "pods" / uid, stage, given)

    def run(self, stage: str, **environment: Any) -> Ended:
        return self.start(stage, **environment).end()

    def indexed(self, stage: str, number: int, **environment: Any) -> Pod:
        """Start the pod of one index, in a Job that begins at 0 or 1."""
        first = min(number, 1)
        return self.start(
            stage, AICSWEEP_FIRST=str(first), JOB_COMPLETION_INDEX=str(number - first), **environment
        )

    def make_plan(self, number: int = 1, **environment: Any) -> Ended:
        """Plan round `number`; what follows works on that plan."""
        document = {
            "apiVersion": "aicsweep.dev/v1alpha1",
            "kind": "Sweep",
            "metadata": {"name": "sample", "namespace": "bench", "uid": "u-1", "generation": 1, "labels": {}},
            "spec": self.spec,
        }
        ended = self.run("plan", AICSWEEP_SWEEP=document, AICSWEEP_ROUND=str(number), **environment)
        if ended.code == 0:
            assert ended.message is not None
            self.plan = ended.message
        return ended

    def build(self) -> None:
        """All exports and compile tasks."""
        assert self.plan, "not planned"
        for stage, count in (("export", self.plan["exports"]), ("compile", self.plan["lots_per_node"])):
            ended = [pod.end() for pod in [self.indexed(stage, number) for number in range(count)]]
            assert all(each.code in (0, 1) for each in ended), ended

    def measure(self, lot: int, **environment: Any) -> Ended:
        return self.indexed("measure", lot, **environment).end()

    def measure_lots(self) -> None:
        """All of them, whatever comes of it."""
        for lot in range(self.plan["lots"]):
            assert self.measure(lot).code in (0, 1)

    def measure_all(self) -> None:
        for lot in range(self.plan["lots"]):
            assert self.measure(lot).code == 0

    def merge(self, **environment: Any) -> Mapping[str, Any]:
        ended = self.run("merge", **environment)
        assert ended.code == 0, ended
        assert ended.message is not None
        return ended.message

    def table(self) -> pa.Table:
        return tables.read_current(self.home)[0]

    def results(self) -> Results:
        return engine.read_results(self.home)


def killed_by(cluster: Cluster, stage: str, number: int, most: int) -> int:
    """Try an index until its pod is not killed any more, at most so often; how many were."""
    for count in range(most):
        ended = cluster.indexed(stage, number).end()
        if ended.code != -9:
            assert ended.code in (0, 1)
            return count
        assert ended.message is None
    return most
