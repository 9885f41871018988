"""One Sweep in a namespace of its own with a controller of its own, and many such scenes side by side.

A Sweep spends most of its time waiting for one part of the cluster to notice another, so scenes that don't
touch each other are played at the same time, and a test only asks how its own went:

    play = Plays()

    @play
    def suspended(scene): ...

    @pytest.mark.parametrize("name", play.names)
    def test_flow(name, played): played(name)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner import engine
from runner.store import open_store
from tests.cluster.cluster import until
from tests.cluster.oracle import differences, reason, undisturbed
from tests.cluster.rig import Controller, Rig
from tests.cluster.shim import Action, Fault, Played

AT_ONCE = 8
# A lot has two cells: so slow a backend measures for longer than it takes to strike, also on a busy host.
SLOW_S = 2.0
# Two models, two lots each: the canary has one of each, and a second wave the rest.
SMALL: dict[str, Any] = {
    "models": ["resnet50", "mobilenet_v2"],
    "objectives": ["best-throughput"],
    "grid": {"cores": [1, 2, 7, 14], "instances": ["fill"]},
    "limits": {"lotMinutes": 5, "parallelism": 2},
}


class Scene:
    """The Sweep `it` of a namespace, and what is around it."""

    def __init__(self, rig: Rig, namespace: str, controller: Controller, folder: Path) -> None:
        self.rig, self.namespace, self.controller, self.folder = rig, namespace, controller, folder
        self.lane = controller.lane
        self.store = rig.store(namespace)
        self.spec: dict[str, Any] = {}

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.rig.cluster.kubectl(*args, "-n", self.namespace, stdin=stdin)

    def apply(self, **spec: Any) -> None:
        """The Sweep, by default SMALL."""
        self.spec = {**SMALL, **spec}
        self.rig.apply(self.namespace, "it", **self.spec)

    def patch(self, **spec: Any) -> None:
        self.spec |= spec
        self.rig.patch(self.namespace, "it", **spec)

    def delete(self) -> None:
        self.rig.delete(self.namespace, "it")

    @property
    def status(self) -> dict[str, Any]:
        """What it said last, of what is wanted now."""
        return self.rig.status(self.namespace, "it")

    def reason(self, condition: str) -> str:
        return reason(self.status, condition)

    def wait(self, condition: str = "Complete", *, timeout_s: float = 120) -> None:
        self.rig.wait(self.namespace, "it", condition, timeout_s=timeout_s)

    def jobs(self, stage: str = "") -> list[Any]:
        return self.rig.jobs(self.namespace, stage)

    def pods(self, stage: str = "") -> list[Any]:
        return self.rig.pods(self.namespace, stage)

    def played(self, stage: str = "") -> list[Played]:
        """Programs of its pods that have ended."""
        ended = [played for played in self.rig.shim.played if played.namespace == self.namespace]
        return [played for played in ended if stage in ("", played.stage)]

    def fake(self, **settings: Any) -> None:
        """Settings of the fake backend, in all pods that begin from now on."""
        self.rig.shim.environments[self.namespace] = {"AICSWEEP_FAKE": json.dumps(settings)}

    def fault(self, action: Action, **of: Any) -> Fault:
        """What shall happen to pods; see `Fault`."""
        fault = Fault(action, namespace=self.namespace, **of)
        self.rig.shim.faults.append(fault)
        return fault

    def rows(self) -> list[dict[str, Any]]:
        """Of the current table, whole."""
        rows: list[dict[str, Any]] = self.rig.table(self.namespace, "it").to_pylist()
        return rows

    def results(self) -> list[dict[str, Any]]:
        return self.rig.results(self.namespace, "it")

    def repeated(self) -> int:
        """Results beyond the first of each slot."""
        home = open_store(str(self.store)).at(self.rig.prefix(self.namespace, "it"))
        slots = engine.read_results(home).table["slot"].to_pylist()
        return len(slots) - len(set(slots))

    def measuring(self) -> None:
        """Returns once something is measured."""
        until(
            lambda: (
                self.status.get("phase") == "Measuring"
                and any(pod["status"]["phase"] == "Running" for pod in self.pods("measure"))
            )
        )

    def begin(self, *, sleep_s: float = SLOW_S, **spec: Any) -> None:
        """The Sweep is applied, with so slow a backend, and something is measured."""
        self.fake(sleep_s=sleep_s)
        self.apply(**spec)
        self.measuring()

    def ends_well(self, *, repeated: int = 0, timeout_s: float = 120) -> None:
        """The oracle: Complete, with the table of an undisturbed run; no slot was measured more often than is
        allowed; no pod is left; and the status has never said what was not so."""
        self.wait(timeout_s=timeout_s)
        wanted = {name: value for name, value in self.spec.items() if name not in ("suspend", "results")}
        differ = differences(self.results(), undisturbed(**wanted))
        assert not differ, differ
        assert self.repeated() <= repeated, self.repeated()
        assert not self.lies(), self.lies()
        until(lambda: all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in self.pods()))

    def rival(self, **settings: str) -> AbstractContextManager[Controller]:
        """A second controller of the namespace, which waits for the first one's Lease."""
        return self.rig.controller(self.namespace, f"{self.namespace}-rival", **settings)

    @contextmanager
    def own_nodes(self, count: int, **offer: int) -> Iterator[list[str]]:
        """Nodes for this scene's measure pods alone, where `pods=scene.on_own_nodes` is applied."""
        names = self.rig.cluster.add_nodes(count, prefix=self.namespace, **offer)
        try:
            yield names
        finally:
            self.rig.cluster.remove_nodes(*names)

    @property
    def on_own_nodes(self) -> dict[str, Any]:
        return {"measureNodeSelector": {"aicsweep.dev/nodes": self.namespace}}

    def excluded(self) -> set[str]:
        """Nodes that the status has ever called so."""
        states = self.rig.said(self.namespace, "it")
        return {node for state in states for node in state.get("status", {}).get("excludedNodes", ())}

    def lies(self) -> list[str]:
        return self.rig.lies(self.namespace)


@contextmanager
def scene(rig: Rig, name: str, folder: Path, **settings: str) -> Iterator[Scene]:
    """A scene in a new namespace."""
    namespace = rig.add_namespace(re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-"))
    (folder / namespace).mkdir()
    with rig.controller(namespace, **settings) as controller:
        yield Scene(rig, namespace, controller, folder / namespace)


# What it returns is told with the test's result.
Play = Callable[[Scene], "str | None"]


class Plays:
    """Functions of a scene, registered by decorating them."""

    def __init__(self) -> None:
        self._plays: dict[str, tuple[Play, dict[str, str]]] = {}

    def __call__(self, play: Play) -> Play:
        return self.with_settings()(play)

    def with_settings(self, **settings: str) -> Callable[[Play], Play]:
        """With settings of the controller."""

        def register(play: Play) -> Play:
            self._plays[play.__name__] = play, settings
            return play

        return register

    @property
    def names(self) -> list[str]:
        return list(self._plays)

    @contextmanager
    def playing(
        self, rig: Rig, folder: Path, request: pytest.FixtureRequest
    ) -> Iterator[Callable[[str], str | None]]:
        """Begins all plays that a test of the module was selected for; gives what waits for one of them."""
        module = request.module.__name__
        wanted = {
            item.callspec.params.get("name")
            for item in request.session.items
            if isinstance(item, pytest.Function)
            and item.module.__name__ == module
            and hasattr(item, "callspec")
        }
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scene") as pool:
            futures: dict[str, Future[str | None]] = {
                name: pool.submit(self._play, rig, folder, name) for name in self._plays if name in wanted
            }
            try:
                yield lambda name: futures[name].result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _play(self, rig: Rig, folder: Path, name: str) -> str | None:
        play, settings = self._plays[name]
        with scene(rig, name, folder, **settings) as set_up:
            return play(set_up)
