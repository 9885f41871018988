"""Everything that a Sweep needs to go its way on the test cluster, with a hand on each part.

    kubectl / `apply` --> API server <-- Proxy <-- controller (`python -m k8s`, a process of its own)
                              ^--- Shim: `aicsweep pod STAGE`, processes --> folder store --> `table`

A `Rig` is one shim, one proxy and as many controllers as a test starts, each of one namespace only. It
watches all Sweeps and keeps what their status has ever said, so that a test can ask whether it ever lied.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from runner import tables
from runner.errors import StoreError
from runner.store import open_store
from runner.sweepfile import sweep_from_object
from tests.cluster import oracle
from tests.cluster.cluster import Cluster, until
from tests.cluster.connection import Connection, Refused, connected
from tests.cluster.forks import Fork, Forks
from tests.cluster.kubelet_logs import answer_for, serving_logs
from tests.cluster.proxy import Proxy, proxying, write_kubeconfig
from tests.cluster.shim import Fault, Shim

CLUSTER = "test"
_SWEEPS = "/apis/aicsweep.dev/v1alpha1"
_OURS = ("aicsweep.dev/test", "rig")
_APPLY = "application/apply-patch+yaml"

T = TypeVar("T")
Sweep = dict[str, Any]


class Controller:
    """A controller of one namespace, behind a lane of the proxy, both by its name. `ends`: exit codes of its
    processes so far; `clock_ahead_s`: of its host, from its next start on."""

    def __init__(self, rig: Rig, namespace: str, name: str, settings: Mapping[str, str]) -> None:
        self.namespace, self.name, self.ends = namespace, name, list[int]()
        self.lane = rig.proxy.lane(name)
        self.log = rig.folder / f"controller-{name}.log"
        self.clock_ahead_s = 0.0
        self._rig, self._settings = rig, settings
        self._config = write_kubeconfig(rig.folder / f"{name}.kubeconfig", self.lane)
        self._fork: Fork | None = None

    async def begin(self) -> None:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._rig.folder),
            "KUBECONFIG": str(self._config),
            "AICSWEEP_NAMESPACES": self.namespace,
            "AICSWEEP_CLUSTER": CLUSTER,
            "AICSWEEP_STORE": str(self._rig.store(self.namespace)),
            "AICSWEEP_BUILD_IMAGE": "build",
            "AICSWEEP_MEASURE_IMAGE": "measure",
            "AICSWEEP_LEASE_NAMESPACE": self.namespace,
            # The same one after a restart: it need not wait until its own Lease has run out.
            "AICSWEEP_IDENTITY": self.name,
            "AICSWEEP_LISTEN": "127.0.0.1:0",
            **self._settings,
        }
        self._fork = await self._rig.forks.run(
            ["k8s"], environment, folder=self._rig.folder, log=self.log, clock_ahead_s=self.clock_ahead_s
        )

    async def end(self, number: signal.Signals) -> int:
        """Its exit code, once it has ended."""
        assert self._fork is not None
        self._rig.forks.signal(self._fork, number)
        code = await self._fork.ended
        self.ends.append(code)
        return code

    def start(self) -> None:
        self._rig.do(self.begin())

    def kill(self) -> None:
        self._rig.do(self.end(signal.SIGKILL))

    def stop(self) -> int:
        """As a Deployment does; its exit code."""
        return self._rig.do(self.end(signal.SIGTERM))

    def pause(self) -> None:
        """As a host that hangs: it does nothing until `go_on`, and has not noticed then."""
        self._rig.do(self._signal(signal.SIGSTOP))

    def go_on(self) -> None:
        self._rig.do(self._signal(signal.SIGCONT))

    async def _signal(self, number: signal.Signals) -> None:
        assert self._fork is not None
        self._rig.forks.signal(self._fork, number)

    def kill_at_call(self, number: int, *, done: bool) -> None:
        """Kill it at its so many-th call from now on, before the server gets it or once it is `done`; a new
        one begins at once."""

        def kill() -> None:
            assert self._fork is not None
            os.kill(self._fork.pid, signal.SIGKILL)
            self.lane.at_call = None
            self._rig.background(self._again())

        self.lane.at_call = (len(self.lane.calls) + number, done, kill)

    async def _again(self) -> None:
        await self.end(signal.SIGKILL)
        await self.begin()


class Rig:
    """The parts. Methods are for tests, that is, for another thread than the one everything runs in."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self._background: set[asyncio.Task[Any]] = set()
        self._said: dict[tuple[str, str], list[Sweep]] = {}
        self._lies: list[str] = []

    api: Connection
    shim: Shim
    proxy: Proxy
    forks: Forks
    _log_port: int | None = None
    _loop: asyncio.AbstractEventLoop
    _stop: asyncio.Event

    async def run(self, ready: Callable[[], None]) -> None:
        """Until `stop`."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            self.api = await stack.enter_async_context(connected(self.cluster.kubeconfig))
            self.forks = await Forks.start(self.folder / "forks.log")
            stack.push_async_callback(self.forks.close)
            self.proxy = await stack.enter_async_context(proxying(self.api))
            self.shim = Shim(self.api, self.forks, self.folder / "pods")
            (self.folder / "pods").mkdir()
            if self.cluster.certificate.exists():
                find = lambda namespace, pod: self.shim.logs.get((namespace, pod))  # noqa: E731
                self._log_port = await stack.enter_async_context(serving_logs(self.cluster.certificate, find))
            tasks = [asyncio.create_task(self.shim.run()), asyncio.create_task(self._watch())]
            ready()
            await self._stop.wait()
            for task in (*tasks, *self._background):
                task.cancel()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Done in the loop, waited for."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Within the loop: begun, not waited for."""
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def add_namespace(self, name: str) -> str:
        """Ready for pods; it goes with the rig."""
        meta = {"name": name, "labels": dict([_OURS])}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
        try:
            self.do(self.api.request("POST", "/api/v1/namespaces", body))
        except Refused as error:
            # Asked again after an answer that was lost, as of a busy server.
            if error.status != 409:
                raise
        # Made by the controller-manager; a Job whose pods are refused before waits ever longer.
        until(lambda: self._find(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
        return name

    def answer_logs(self, *nodes: str) -> None:
        """`kubectl logs` works for pods on these nodes, where the cluster is our own."""
        if self._log_port is not None:
            self.do(answer_for(self.api, list(nodes), self._log_port))

    def remove_namespaces(self) -> None:
        self.cluster.kubectl("delete", "namespace", "-l", "=".join(_OURS), "--wait=false")

    def node_back(self, fault: Fault) -> None:
        """The node that `fault` took away is heard of again."""
        self._loop.call_soon_threadsafe(fault.back.set)

    # -- Sweeps

    @contextmanager
    def controller(self, namespace: str, name: str = "", **settings: str) -> Iterator[Controller]:
        """One for this namespace, by default of its name; `settings` by the variables' names without their
        prefix, in lower case."""
        given = {f"AICSWEEP_{setting.upper()}": value for setting, value in settings.items()}
        controller = Controller(self, namespace, name or namespace, given)
        controller.start()
        try:
            yield controller
        finally:
            controller.kill()

    def apply(self, namespace: str, name: str, **spec: Any) -> None:
        """Create or replace a Sweep of the fake backend."""
        body = {
            "apiVersion": "aicsweep.dev/v1alpha1",
            "kind": "Sweep",
            "metadata": {"name": name},
            "spec": {"backend": "fake", "models": ["resnet50"], **spec},
        }
        query = {"fieldManager": "test", "force": "true"}
        self._change(namespace, name, body, query=query, content=_APPLY)

    def patch(self, namespace: str, name: str, **spec: Any) -> None:
        """Change fields of a Sweep's spec; None takes one away."""
        self._change(namespace, name, {"spec": spec}, content="application/merge-patch+json")

    def _change(self, namespace: str, name: str, body: Any, **how: Any) -> None:
        """Returns once the watch has brought it: what is said from then on is said of it."""
        changed = self.do(self.api.request("PATCH", _path(namespace, name), body, **how))
        until(lambda: any(oracle.same_spec(changed, state) for state in self.said(namespace, name)[-5:]))

    def delete(self, namespace: str, name: str) -> None:
        self.do(self.api.request("DELETE", _path(namespace, name)))

    def jobs(self, namespace: str, stage: str = "") -> list[Any]:
        return self._list("/apis/batch/v1", namespace, "jobs", stage)

    def pods(self, namespace: str, stage: str = "") -> list[Any]:
        return self._list("/api/v1", namespace, "pods", stage)

    def _list(self, api: str, namespace: str, kind: str, stage: str) -> list[Any]:
        query = {"labelSelector": f"aicsweep.dev/stage={stage}"} if stage else {}
        path = f"{api}/namespaces/{namespace}/{kind}"
        return list(self.do(self.api.request("GET", path, query=query))["items"])

    def sweep(self, namespace: str, name: str) -> Sweep | None:
        """As the server has it now."""
        return self._find(_path(namespace, name))

    def _find(self, path: str) -> Any:
        try:
            return self.do(self.api.request("GET", path))
        except Refused as error:
            if error.status != 404:
                raise
            return None

    def said(self, namespace: str, name: str) -> list[Sweep]:
        """Every state of the Sweep that was ever seen."""
        return self._said.get((namespace, name), [])

    def status(self, namespace: str, name: str) -> dict[str, Any]:
        """What it said last, of the spec that it has now; else nothing."""
        states = self.said(namespace, name)
        return dict(oracle.of_its_spec(states[-1])) if states else {}

    def wait(self, namespace: str, name: str, condition: str = "Complete", *, timeout_s: float = 90) -> None:
        """Until the condition is true of what is wanted now."""
        try:
            until(lambda: oracle.is_true(self.status(namespace, name), condition), timeout_s=timeout_s)
        except AssertionError:
            raise AssertionError(f"never {condition}: {self._last_words(namespace, name)}") from None

    def _last_words(self, namespace: str, name: str) -> str:
        log = self.folder / f"controller-{namespace}.log"
        jobs = [(j["metadata"]["name"], j.get("status")) for j in self.jobs(namespace)]
        tail = log.read_text().splitlines()[-15:] if log.exists() else []
        return json.dumps([self.status(namespace, name), jobs, tail], indent=1)

    # -- what comes of it

    def store(self, namespace: str) -> Path:
        """One a namespace: what one test makes infeasible would be remembered for all."""
        return self.folder / "stores" / namespace

    def table(self, namespace: str, name: str) -> pa.Table:
        """The Sweep's current table, read by the product's own code."""
        home = open_store(str(self.store(namespace))).at(self.prefix(namespace, name))
        return tables.read_current(home)[0]

    def results(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """What the Sweep's current table has found."""
        return oracle.results(self.table(namespace, name))

    def prefix(self, namespace: str, name: str) -> str:
        return sweep_from_object(self.said(namespace, name)[-1]).store_prefix(CLUSTER)

    def lies(self, namespace: str, name: str = "") -> list[str]:
        """What a status has said that was not so."""
        return [lie for lie in self._lies if lie.startswith(f"{namespace}/{name}")]

    async def _watch(self) -> None:
        async for event, found in self.api.changes(f"{_SWEEPS}/sweeps", ""):
            if event == "DELETED":
                continue
            key = found["metadata"]["namespace"], found["metadata"]["name"]
            states = self._said.setdefault(key, [])
            before = states[-1] if states and oracle.same_spec(states[-1], found) else None
            try:
                lies = list(oracle.find_lies(before, found))
            except StoreError:
                # Not ours to read: a bucket, whose keys the pods have.
                lies = []
            except Exception as error:
                lies = [f"can't be understood: {error!r}"]
            self._lies += [f"{'/'.join(key)}: {lie}" for lie in lies]
            states.append(found)


def _path(namespace: str, name: str) -> str:
    return f"{_SWEEPS}/namespaces/{namespace}/sweeps/{name}"


@contextmanager
def rigged(cluster: Cluster, folder: Path) -> Iterator[Rig]:
    """A rig on the cluster; its parts run in a thread of their own and end with it."""
    rig, ready = Rig(cluster, folder), concurrent.futures.Future[None]()

    def run() -> None:
        try:
            asyncio.run(rig.run(lambda: ready.set_result(None)))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=run, name="rig")
    thread.start()
    try:
        ready.result()
        yield rig
    finally:
        rig.stop()
        thread.join()
