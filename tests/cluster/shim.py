"""Plays the programs of simulated pods: for each Running pod of aicsweep the real `aicsweep pod STAGE` runs here.

    kwok: pod is Running --watch--> Shim --fork--> aicsweep pod STAGE --exit code, message--> pod's status

It does what a kubelet would that matters to a Job: resolves the environment (Secrets, downward API), maps
mounts to folders, passes SIGTERM on when the pod is deleted, and says how the container ended. So tables in
these tests are real merges. What goes wrong on nodes is a `Fault`: which pods, and what happens to them.

    python -m tests.cluster.shim --kubeconfig FILE FOLDER      plays until it is ended
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click

from k8s import names
from tests.cluster import kubelet
from tests.cluster.connection import STRATEGIC, Connection, Refused, connected
from tests.cluster.forks import Fork, Forks

PLAYED_BY = "aicsweep.dev/played-by"
KILLED, TERMINATED = 137, 143
_SECRET_PAUSE_S = 0.2
_INDEX = "batch.kubernetes.io/job-completion-index"

# kill: SIGKILL. oom: the same, as the kubelet tells it. evict: through the API's eviction, then SIGTERM.
# lose-message: it ends well, and nobody learns what it said. twice: another pod does the same at the same time.
# hang: only a signal ends it. exit: it ends with `code` and has done nothing. reject: the kubelet takes it not.
# reboot: killed, and the kubelet that comes up knows nothing of it. away: nothing is heard of its node until
# `back`, if ever; its program goes on from where it was then.
Action = Literal["kill", "oom", "evict", "lose-message", "twice", "hang", "exit", "reject", "reboot", "away"]
_KILLS = {"kill": "Error", "oom": "OOMKilled", "reboot": "ContainerStatusUnknown"}


@dataclass
class Fault:
    """What happens to pods. Of those that all named fields fit, the first `after` are spared, the next `times`
    are not. `at_write`: when it is about to write to the store for the so many-th time; 0: before it begins.
    `seen` counts the pods that fit, `struck` names those that it happened to."""

    action: Action
    sweep: str = ""
    namespace: str = ""
    stage: str = ""
    wave: str = ""
    index: str = ""
    node: str = ""
    at_write: int = 0
    after: int = 0
    times: int = 1
    code: int = 3
    seen: int = 0
    struck: list[str] = field(default_factory=list)
    back: asyncio.Event = field(default_factory=asyncio.Event)

    def fits(self, pod: Mapping[str, Any]) -> bool:
        meta = pod["metadata"]
        labels = meta["labels"]
        pairs = [
            (self.sweep, labels.get(names.LABEL_SWEEP)),
            (self.namespace, meta["namespace"]),
            (self.stage, labels.get(names.LABEL_STAGE)),
            (self.wave, labels.get(names.LABEL_WAVE)),
            (self.index, labels.get(_INDEX)),
            (self.node, pod["spec"].get("nodeName")),
        ]
        return all(not wanted or wanted == found for wanted, found in pairs)


@dataclass(frozen=True)
class Played:
    """How a pod's program ended."""

    namespace: str
    sweep: str
    stage: str
    pod: str
    code: int


class NotConfigured(Exception):
    """The container's environment can't be made: the kubelet tries again until it can."""


@dataclass
class _Part:
    """A pod on stage."""

    pod: Any
    fault: Fault | None = None
    fork: Fork | None = None
    ending: asyncio.Event = field(default_factory=asyncio.Event)


class Shim:
    """The player. `faults` and `environments` (more for the programs of a namespace) may be changed at any
    time; `played` only grows. Pods of a stage in `instead` end well at once with the message it makes up for
    them, and no program is run: for benchmarks of all that is around the pods."""

    def __init__(self, api: Connection, forks: Forks, folder: Path, *, at_once: int = 4) -> None:
        self.faults: list[Fault] = []
        self.environments: dict[str, dict[str, str]] = {}
        self.played: list[Played] = []
        # Of each pod whose program has begun, by namespace and name.
        self.logs: dict[tuple[str, str], Path] = {}
        self.instead: dict[str, Callable[[Any], str]] = {}
        self._api, self._forks, self._folder = api, forks, folder
        self._turn = asyncio.Semaphore(at_once)
        self._parts: dict[str, _Part] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        selector = f"{names.MANAGED_BY}=aicsweep"
        async for event, pod in self._api.changes("/api/v1/pods", selector):
            self._look_at(event, pod)

    def _look_at(self, event: str, pod: Any) -> None:
        uid, meta = pod["metadata"]["uid"], pod["metadata"]
        part = self._parts.get(uid)
        if part is not None:
            if event == "DELETED" and part.fork is not None:
                # By force: a kubelet that hears of it kills.
                self._forks.signal(part.fork, signal.SIGKILL)
            if event == "DELETED" or "deletionTimestamp" in meta:
                part.ending.set()
        elif event != "DELETED" and pod.get("status", {}).get("phase") == "Running":
            self._parts[uid] = part = _Part(pod)
            if "deletionTimestamp" in meta:
                part.ending.set()
            task = asyncio.get_running_loop().create_task(self._play(part))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _play(self, part: _Part) -> None:
        meta = part.pod["metadata"]
        folder = self._folder / meta["uid"]
        labels = meta["labels"]
        try:
            if made_up := self.instead.get(labels.get(names.LABEL_STAGE, "")):
                async with self._turn:
                    said = kubelet.ended(part.pod, 0, "Completed", made_up(part.pod))
                    return await self._patch(part, {"status": said}, "/status")
            await self._patch(part, {"metadata": {"annotations": {PLAYED_BY: "shim"}}})
            environment = await self._configured(part, folder)
            if self._rejected(part):
                await self._patch(part, {"status": kubelet.rejected(part.pod)}, "/status")
                return
            code, reason, message = await self._perform(part, environment, folder)
            self.played.append(
                Played(
                    meta["namespace"],
                    labels.get(names.LABEL_SWEEP, ""),
                    labels.get(names.LABEL_STAGE, ""),
                    meta["name"],
                    code,
                )
            )
            await self._patch(part, {"status": kubelet.ended(part.pod, code, reason, message)}, "/status")
        except Refused as error:
            if error.status != 404:
                raise
        finally:
            # A relist may still show it as Running: it is not played again.
            part.fork = None
            shutil.rmtree(folder, ignore_errors=True)

    # -- what it is told

    async def _configured(self, part: _Part, folder: Path) -> dict[str, str]:
        """The environment, once it can be made; until then the pod waits and says for what."""
        told = ""
        while not part.ending.is_set():
            try:
                environment = await self._environment(part.pod)
            except NotConfigured as error:
                if str(error) != told:
                    told = str(error)
                    await self._patch(part, {"status": kubelet.waiting(part.pod, told)}, "/status")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(part.ending.wait(), _SECRET_PAUSE_S)
                continue
            if told:
                await self._patch(part, {"status": kubelet.begun(part.pod)}, "/status")
            more = self.environments.get(part.pod["metadata"]["namespace"], {})
            return {**kubelet.here(part.pod, environment, folder), **more}
        return {}

    async def _environment(self, pod: Any) -> dict[str, str]:
        """As a kubelet makes it. Raises NotConfigured."""
        found: dict[str, str] = {}
        for variable in pod["spec"]["containers"][0].get("env", ()):
            source = variable.get("valueFrom", {})
            if "fieldRef" in source:
                found[variable["name"]] = kubelet.field(pod, source["fieldRef"]["fieldPath"])
            elif "secretKeyRef" in source:
                value = await self._secret(pod["metadata"]["namespace"], source["secretKeyRef"])
                if value is not None:
                    found[variable["name"]] = value
            else:
                found[variable["name"]] = variable.get("value", "")
        return found

    async def _secret(self, namespace: str, reference: Mapping[str, Any]) -> str | None:
        name, key = reference["name"], reference["key"]
        try:
            secret = await self._api.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
        except Refused as error:
            if error.status != 404:
                raise
            secret, missing = {}, f'secret "{name}" not found'
        else:
            missing = f"couldn't find key {key} in Secret {namespace}/{name}"
        if key in secret.get("data", {}):
            return base64.b64decode(secret["data"][key]).decode()
        if reference.get("optional"):
            return None
        raise NotConfigured(missing)

    # -- what happens to it

    def _rejected(self, part: _Part) -> bool:
        part.fault = self._fault(part.pod)
        if part.fault is None or part.fault.action != "reject":
            return False
        part.fault.struck.append(part.pod["metadata"]["name"])
        return True

    async def _perform(
        self, part: _Part, environment: Mapping[str, str], folder: Path
    ) -> tuple[int, str, str]:
        """Exit code, reason and message of its container."""
        fault = part.fault
        if fault is not None and not fault.at_write:
            fault.struck.append(part.pod["metadata"]["name"])
        if fault is None or fault.action in ("lose-message", "twice"):
            async with self._turn:
                if part.ending.is_set():
                    return TERMINATED, "Error", ""
                others = [environment]
                if fault is not None and fault.action == "twice":
                    # A node that was thought lost: its pod still works beside the one that replaced it.
                    others.append({**environment, "AICSWEEP_POD": f"{environment['AICSWEEP_POD'][:-4]}twin"})
                code, *_ = await asyncio.gather(*(self._process(part, each, folder) for each in others))
            message = "" if fault is not None and fault.action == "lose-message" else kubelet.message(folder)
            return code, "Error" if code else "Completed", message
        if fault.action == "exit":
            return fault.code, "Error", ""
        if not fault.at_write:
            if fault.action in _KILLS:
                return KILLED, _KILLS[fault.action], ""
            if fault.action == "evict":
                await self._evict(part)
            await part.ending.wait()
            return TERMINATED, "Error", ""
        code = await self._process(part, environment, folder, fault)
        return code, _KILLS.get(fault.action, "Error") if code else "Completed", kubelet.message(folder)

    def _fault(self, pod: Any) -> Fault | None:
        """The first that strikes; every one that fits counts the pod."""
        strikes = None
        for fault in self.faults:
            if fault.fits(pod):
                fault.seen += 1
                if strikes is None and fault.after < fault.seen <= fault.after + fault.times:
                    strikes = fault
        return strikes

    async def _process(
        self, part: _Part, environment: Mapping[str, str], folder: Path, fault: Fault | None = None
    ) -> int:
        """Run it to its end; SIGTERM when the pod is deleted, SIGKILL when its grace period is over."""
        container, meta = part.pod["spec"]["containers"][0], part.pod["metadata"]
        self.logs[meta["namespace"], meta["name"]] = folder.with_suffix(".log")
        part.fork = fork = await self._forks.run(
            ["aicsweep", *container["args"]],
            environment,
            folder=folder,
            log=folder.with_suffix(".log"),
            hold_at_write=fault.at_write if fault else 0,
        )
        ending = asyncio.create_task(part.ending.wait())
        holding = asyncio.create_task(fork.holding.wait())
        try:
            await asyncio.wait({ending, holding, fork.ended}, return_when=asyncio.FIRST_COMPLETED)
            if fault and holding.done():
                fault.struck.append(part.pod["metadata"]["name"])
                if fault.action in _KILLS:
                    self._forks.signal(fork, signal.SIGKILL)
                elif fault.action == "away":
                    await fault.back.wait()
                    self._forks.go_on(fork)
                elif fault.action == "evict":
                    await self._evict(part)
                await asyncio.wait({ending, fork.ended}, return_when=asyncio.FIRST_COMPLETED)
            if not fork.ended.done():
                self._forks.signal(fork, signal.SIGTERM)
                grace_s = part.pod["spec"].get("terminationGracePeriodSeconds", 30)
                await asyncio.wait({fork.ended}, timeout=grace_s)
                self._forks.signal(fork, signal.SIGKILL)
            code = await fork.ended
        finally:
            ending.cancel()
            holding.cancel()
        return 128 - code if code < 0 else code

    async def _evict(self, part: _Part) -> None:
        meta = part.pod["metadata"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        }
        await self._api.request("POST", f"{kubelet.path(part.pod)}/eviction", body)

    async def _patch(self, part: _Part, body: Any, subresource: str = "") -> None:
        await self._api.request("PATCH", kubelet.path(part.pod) + subresource, body, content=STRATEGIC)


@click.command()
@click.option("--kubeconfig", type=click.Path(path_type=Path), required=True)
@click.argument("folder", type=click.Path(path_type=Path))
def main(kubeconfig: Path, folder: Path) -> None:
    """Play all pods of aicsweep until this process is ended."""
    asyncio.run(_play_all(kubeconfig, folder))


async def _play_all(kubeconfig: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    forks = await Forks.start(folder / "forks.log")
    with contextlib.suppress(asyncio.CancelledError):
        async with connected(kubeconfig) as api:
            await Shim(api, forks, folder).run()
    await forks.close()


if __name__ == "__main__":
    main(prog_name="python -m tests.cluster.shim")
