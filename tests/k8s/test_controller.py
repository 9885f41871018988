"""The parts together: who acts when, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from k8s import names, watch
from k8s.api import connect
from k8s.controller import Controller
from k8s.metrics import Metrics
from k8s.settings import Settings
from tests.k8s.standin import StandIn, refusal, standing_in
from tests.k8s.test_reconcile import job
from tests.k8s.world import sweep

IMAGES = {"build_image": "build", "measure_image": "measure", "store": "s3://bench/aicsweep"}


@pytest.fixture(autouse=True)
def _hardly_any_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_MAX_PAUSE_S", 0.05)


def kubeconfig(server: StandIn, folder: Path) -> str:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (folder / "config").write_text(json.dumps(config))
    return str(folder / "config")


class Running:
    def __init__(self, controller: Controller, stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        self.controller, self.stop, self.task = controller, stop, task

    async def end(self) -> None:
        self.stop.set()
        await self.task


@asynccontextmanager
async def running(server: StandIn, folder: Path, **settings: Any) -> AsyncIterator[Running]:
    wanted = Settings.model_validate({**IMAGES, "lease_s": 3, "identity": "me", **settings})
    async with connect(kubeconfig=kubeconfig(server, folder)) as api:
        controller = Controller(api, wanted, Metrics())
        stop = asyncio.Event()
        task = asyncio.create_task(controller.run(stop))
        at = Running(controller, stop, task)
        try:
            yield at
        finally:
            await at.end()


def holder(server: StandIn) -> str:
    found = server.objects.get(("leases", "default", "aicsweep-controller"))
    return str(found["spec"]["holderIdentity"]) if found else ""


def jobs(server: StandIn) -> list[str]:
    return [name for plural, _, name in server.objects if plural == "jobs"]


async def hold(server: StandIn, identity: str, seconds: int = 3600) -> None:
    metadata = {"namespace": "default", "name": "aicsweep-controller", "uid": "lease"}
    spec = {"holderIdentity": identity, "leaseDurationSeconds": seconds}
    await server.put("leases", {"metadata": metadata, "spec": spec})


async def test_a_sweep_gets_its_plan_job_and_its_end_releases_the_lease(tmp_path: Path) -> None:
    async with standing_in() as server, running(server, tmp_path) as at:
        await server.until(lambda: holder(server) == "me")
        await server.put("sweeps", sweep())
        await server.until(lambda: jobs(server))
        await server.until(lambda: "status" in server.objects["sweeps", "bench", "cnn"])
        assert server.objects["sweeps", "bench", "cnn"]["status"]["phase"] == "Planning"
        await at.end()
        assert holder(server) == ""


async def test_what_was_there_before_is_looked_at(tmp_path: Path) -> None:
    async with standing_in() as server:
        await server.put("sweeps", sweep())
        async with running(server, tmp_path):
            await server.until(lambda: jobs(server))


async def test_a_jobs_change_makes_its_sweep_looked_at(tmp_path: Path) -> None:
    async with standing_in() as server:
        await server.put("sweeps", sweep())
        async with running(server, tmp_path):
            await server.until(lambda: "status" in server.objects["sweeps", "bench", "cnn"])
            (name,) = jobs(server)
            await server.remove("jobs", "bench", name)
            await server.until(lambda: jobs(server) == [name])


async def test_nothing_is_done_on_caches_that_are_not_full(tmp_path: Path) -> None:
    async with standing_in() as server:
        await server.put("sweeps", sweep())
        server.fail("list", "jobs", lambda: refusal(503), times=1_000_000)
        async with running(server, tmp_path) as at:
            await server.until(lambda: server.verbs("jobs").count("list") > 5)
            assert at.controller.stale() == ["jobs"]
            assert server.verbs("leases") == []
            assert jobs(server) == []
            server.heal()
            await server.until(lambda: jobs(server))
            assert at.controller.stale() == []


async def test_one_that_does_not_lead_knows_all_and_does_nothing_until_it_does(tmp_path: Path) -> None:
    async with standing_in() as server:
        await hold(server, "another")
        await server.put("sweeps", sweep())
        async with running(server, tmp_path) as at:
            await server.until(lambda: server.verbs("leases"))
            assert at.controller.stale() == []
            assert len(at.controller._sweeps) == 1
            assert {verb for verb, _ in server.calls} <= {"list", "watch", "get"}
            assert b"aicsweep_queue_depth 0.0" in at.controller._metrics.as_text()
            await hold(server, "")
            await server.until(lambda: jobs(server))


async def test_one_that_lost_the_lease_stops_and_may_lead_again(tmp_path: Path) -> None:
    async with standing_in() as server, running(server, tmp_path) as at:
        await server.until(lambda: holder(server) == "me")
        await hold(server, "another")
        await server.until(lambda: not at.controller._lease.held())
        await server.until(lambda: all(worker.done() for worker in at.controller._workers))
        await server.put("sweeps", sweep())
        await server.until(lambda: len(at.controller._sweeps) == 1)
        assert jobs(server) == []
        await hold(server, "")
        await server.until(lambda: jobs(server))


async def test_an_outage_longer_than_the_lease_ends_nothing(tmp_path: Path) -> None:
    async with standing_in() as server, running(server, tmp_path) as at:
        await server.until(lambda: holder(server) == "me")
        for verb, plural in (("patch", "leases"), ("get", "leases"), ("watch", "sweeps"), ("watch", "jobs")):
            server.fail(verb, plural, lambda: refusal(503), times=1_000_000)
        await server.end_watches()
        await server.until(lambda: not at.controller._lease.held())
        server.heal()
        await server.put("sweeps", sweep())
        await server.until(lambda: jobs(server))


async def test_the_pass_under_way_is_ended_before_the_process_is(tmp_path: Path) -> None:
    async with standing_in() as server, running(server, tmp_path) as at:
        reached, go_on = asyncio.Event(), asyncio.Event()
        create = server._create

        async def slow(request: Any, where: Any, body: Any) -> Any:
            if where["plural"] == "jobs":
                reached.set()
                await go_on.wait()
            return await create(request, where, body)

        server._create = slow  # type: ignore[method-assign]
        await server.put("sweeps", sweep())
        await reached.wait()
        at.stop.set()
        await asyncio.sleep(0)
        other = sweep()
        other["metadata"].update(name="late", uid="u-9")
        await server.put("sweeps", other)
        assert holder(server) == "me"
        go_on.set()
        await at.task
        assert len(jobs(server)) == 1
        assert server.objects["sweeps", "bench", "cnn"]["status"]["phase"] == "Planning"
        assert "status" not in server.objects["sweeps", "bench", "late"]
        assert holder(server) == ""


async def test_a_pass_that_does_not_end_is_cut(tmp_path: Path) -> None:
    async with standing_in() as server, running(server, tmp_path, stop_s=0) as at:
        reached = asyncio.Event()

        async def never(*_: Any) -> Any:
            reached.set()
            await asyncio.sleep(3600)

        server._create = never  # type: ignore[method-assign]
        await hold(server, "")
        await server.put("sweeps", sweep())
        await reached.wait()
        await at.end()
        assert holder(server) == ""


async def test_news_too_old_is_named(tmp_path: Path) -> None:
    async with standing_in() as server, running(server, tmp_path, silence_s=20) as at:
        assert at.controller.stale() == ["sweeps", "jobs"]
        await server.until(lambda: not at.controller.stale())
        at.controller._reflectors["jobs"].fresh_at -= 51
        assert at.controller.stale() == ["jobs"]


async def test_each_sweep_is_looked_at_again_in_time(tmp_path: Path) -> None:
    async with standing_in() as server:
        await server.put("sweeps", {**sweep(), "spec": {"not": "a sweep"}})
        async with running(server, tmp_path, resync_s=10) as at:
            key = ("bench", "cnn")
            await server.until(lambda: "status" in server.objects["sweeps", "bench", "cnn"])
            await server.until(lambda: key in at.controller._queue._timers)
            assert server.objects["sweeps", "bench", "cnn"]["status"]["phase"] == "Invalid"
            assert 8 <= (await at.controller._pass(key) or 0) <= 12
            await server.remove("sweeps", *key)
            await server.until(lambda: not len(at.controller._sweeps))
            assert await at.controller._pass(key) is None


async def test_only_jobs_that_are_ours_are_kept(tmp_path: Path) -> None:
    async with standing_in() as server:
        theirs = job("theirs")
        theirs["metadata"]["labels"] = {names.MANAGED_BY: "somebody"}
        await server.put("jobs", theirs)
        await server.put("jobs", job("ours"))
        async with running(server, tmp_path) as at:
            await server.until(lambda: len(at.controller._jobs))
            assert [found["metadata"]["name"] for found in at.controller._jobs] == ["ours"]


# --- the process


def command(**environment: str) -> subprocess.Popen[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AICSWEEP_", "KUBE"))}
    return subprocess.Popen(
        [sys.executable, "-m", "k8s"],
        cwd=Path(__file__).parents[2],
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_wrong_settings_end_it_with_all_that_is_wrong() -> None:
    _, said = (process := command(AICSWEEP_WORKERS="none")).communicate()
    assert process.returncode == 2
    for variable in ("AICSWEEP_BUILD_IMAGE", "AICSWEEP_MEASURE_IMAGE", "AICSWEEP_WORKERS"):
        assert variable in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_well(number: int, tmp_path: Path) -> None:
    async with standing_in() as server:
        process = command(
            AICSWEEP_BUILD_IMAGE="b",
            AICSWEEP_MEASURE_IMAGE="m",
            AICSWEEP_STORE="s3://b/c",
            AICSWEEP_LISTEN="127.0.0.1:0",
            AICSWEEP_IDENTITY="me",
            KUBECONFIG=kubeconfig(server, tmp_path),
        )
        try:
            await server.put("sweeps", sweep())
            await server.until(lambda: jobs(server) or process.poll() is not None)
            process.send_signal(number)
            ended = threading.Thread(target=process.wait)
            ended.start()
            await server.until(lambda: not ended.is_alive())
        finally:
            process.kill()
            _, said = process.communicate()
        assert process.returncode == 0, said
        lines = [json.loads(line) for line in said.splitlines()]
        assert [line["message"] for line in lines if line["level"] == "info"] == [
            "starting",
            "listening",
            "leading",
            "stopped",
        ]
        assert holder(server) == ""


async def test_several_namespaces_and_no_others(tmp_path: Path) -> None:
    async with standing_in() as server:
        for namespace in ("a", "b", "c"):
            found = sweep()
            found["metadata"] |= {"namespace": namespace, "uid": f"uid-{namespace}"}
            await server.put("sweeps", found)
        async with running(server, tmp_path, namespaces=("a", "b")) as process:
            await server.until(lambda: len(jobs(server)) == 2)
            assert {where for plural, where, _ in server.objects if plural == "jobs"} == {"a", "b"}
            assert process.controller.stale() == []
