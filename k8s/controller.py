"""The controller as a process: `aicsweep-controller`, or `python -m k8s`.

    settings -> reflectors fill the caches -> acquire the Lease -> workers take keys and make passes

A controller that does not lead keeps its caches full, so that it can act as soon as it does. Nothing of
the API server ends the process: without a Lease it stops acting and waits. SIGTERM ends it: no new pass,
those under way get a while, the Lease is released.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import sys
import time
import uuid
from contextlib import AsyncExitStack

from k8s import logs, names, prune
from k8s.api import Api, Object, connect
from k8s.events import Teller
from k8s.lease import Lease
from k8s.metrics import Metrics
from k8s.reconcile import Reconciler
from k8s.resources import JOBS, SWEEPS
from k8s.serve import serving
from k8s.settings import Settings, read_settings
from k8s.watch import Cache, Key, Reflector, key_of
from k8s.work import Queue, work
from runner import __version__
from runner.errors import AicsweepError

log = logging.getLogger(__name__)

# Beyond the time limit of a silent watch, for beginning it anew.
_RECONNECT_S = 30.0


def main() -> None:
    """Until SIGTERM or SIGINT; exit code 0 then, 2 where settings are wrong."""
    try:
        settings = read_settings(os.environ)
        logs.set_up(settings.log_level)
        asyncio.run(_until_signal(settings))
    except AicsweepError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


async def _until_signal(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings, stop)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """The controller, until `stop` is set."""
    log.info("starting", extra={"version": __version__, **settings.model_dump()})
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(
            connect(kubeconfig=settings.kubeconfig, request_s=settings.request_s, on_call=metrics.on_call)
        )
        controller = Controller(api, settings, metrics)
        await stack.enter_async_context(
            serving(settings.listen, stale=controller.stale, metrics=metrics.as_text)
        )
        await controller.run(stop)
    log.info("stopped")


class Controller:
    """The parts, and how they hang together."""

    def __init__(self, api: Api, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._queue = Queue()
        self._sweeps, self._jobs = Cache(prune.sweep), Cache(prune.job)
        identity = settings.identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._lease = Lease(
            api, settings.lease_namespace, settings.lease_name, identity, lease_s=settings.lease_s
        )
        self._reconcile = Reconciler(
            api, self._sweeps, self._jobs, Teller(api, identity), settings.defaults(), self._lease.held
        )
        ours = f"{names.MANAGED_BY}={names.MANAGER}"
        self._reflectors = {
            f"{resource.plural} in {namespace}" if namespace else resource.plural: Reflector(
                api,
                resource,
                cache,
                on_change,
                silence_s=settings.silence_s,
                namespace=namespace,
                selector=selector,
                on_restart=metrics.on_restart,
            )
            for resource, cache, on_change, selector in (
                (SWEEPS, self._sweeps, self._look_at, ""),
                (JOBS, self._jobs, self._look_at_owner, ours),
            )
            for namespace in settings.namespaces or ("",)
        }
        self._workers: list[asyncio.Task[None]] = []
        # Who does not lead has a line too, in which nobody waits for it.
        metrics.show(lambda: len(self._queue) if self._lease.held() else 0, self._sweeps)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        async with asyncio.TaskGroup() as group:
            reflecting = [group.create_task(each.run()) for each in self._reflectors.values()]
            leading = group.create_task(self._lead())
            await stop.wait()
            self._queue.close()
            if self._workers:
                await asyncio.wait(self._workers, timeout=self._settings.stop_s)
            leading.cancel()
            await asyncio.wait([leading])
            await self._lease.release()
            for task in reflecting:
                task.cancel()

    def stale(self) -> list[str]:
        """Kinds of objects of which there was no news for too long, or never."""
        limit_s = self._settings.silence_s + _RECONNECT_S
        return [
            name
            for name, reflector in self._reflectors.items()
            if time.monotonic() - reflector.fresh_at > limit_s
        ]

    async def _lead(self) -> None:
        """Acts whenever the Lease is held. Never on caches that are not yet full: they look like a cluster
        from which everything was deleted."""
        for reflector in self._reflectors.values():
            await reflector.synced.wait()
        while True:
            await self._lease.acquire()
            self._metrics.leading(True)
            self._queue.clear()
            for key in self._sweeps.keys():  # noqa: SIM118
                self._queue.add(key)
            try:
                async with asyncio.TaskGroup() as group:
                    self._workers = [
                        group.create_task(work(self._queue, self._pass, self._metrics.on_pass))
                        for _ in range(self._settings.workers)
                    ]
                    await self._lease.keep()
                    for worker in self._workers:
                        worker.cancel()
            finally:
                self._metrics.leading(False)

    async def _pass(self, key: Key) -> float | None:
        wait_s = await self._reconcile(key)
        if self._sweeps.get(key) is None:
            return None
        resync_s = self._settings.resync_s * random.uniform(0.8, 1.2)
        return resync_s if wait_s is None else min(wait_s, resync_s)

    def _look_at(self, sweep: Object) -> None:
        self._queue.add(key_of(sweep))

    def _look_at_owner(self, job: Object) -> None:
        for owner in job["metadata"].get("ownerReferences", ()):
            if owner["kind"] == SWEEPS.kind:
                self._queue.add((job["metadata"]["namespace"], owner["name"]))
