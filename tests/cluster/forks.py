"""Programs as forks of one process that has their modules loaded: pods and controllers start in milliseconds.

    test --Forks--> this file as a process --fork--> `aicsweep pod STAGE`, `python -m k8s`

Each is a process of its own with its own environment, log and end, as if it had been started; only the
second of imports is saved. A program of a pod can be made to hold before its n-th write to the store, so
that what happens to it there does not depend on time. Everything ends with the test, in whatever way that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
# More than one thread at a fork, and a lock that another one holds is never given back.
_SINGLE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass
class Fork:
    """A running program. `holding`: it is before the write it was to hold at; `ended`: its exit code, -N for
    signal N."""

    id: int
    pid: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Forks:
    """The forking process, in the hands of one event loop."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._forks: dict[int, Fork] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, log: Path) -> Forks:
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.cluster.forks",
                cwd=_ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=file,
                env={**os.environ, **_SINGLE},
            )  # fmt: skip
        return cls(process)

    async def close(self) -> None:
        """Kills what still runs."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        folder: Path,
        log: Path,
        hold_at_write: int = 0,
        clock_ahead_s: float = 0.0,
    ) -> Fork:
        """Start `aicsweep ARGS` or `k8s`, with this environment and no other; returns once it has a pid. The clock
        of a controller may be ahead, so that what takes minutes need not be waited for."""
        fork = Fork(len(self._forks) + 1)
        self._forks[fork.id] = fork
        self._tell(
            do="run", id=fork.id, command=list(command), environment=dict(environment), folder=str(folder),
            log=str(log), hold=hold_at_write, ahead_s=clock_ahead_s,
        )  # fmt: skip
        await fork.started.wait()
        return fork

    def signal(self, fork: Fork, number: int) -> None:
        """Nothing, if it has ended: only the forking process knows whether the pid is still its own."""
        self._tell(do="signal", id=fork.id, number=int(number))

    def go_on(self, fork: Fork) -> None:
        """Past the write that it holds at."""
        self._tell(do="go on", id=fork.id)

    def _tell(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            news = json.loads(line)
            fork = self._forks[news["id"]]
            if news["is"] == "started":
                fork.pid = news["pid"]
                fork.started.set()
            elif news["is"] == "holding":
                fork.holding.set()
            elif not fork.ended.done():
                fork.ended.set_result(news["code"])
        for fork in self._forks.values():
            fork.started.set()
            if not fork.ended.done():
                fork.ended.set_result(-signal.SIGKILL)


# -- the forking process


@dataclass
class _Child:
    pid: int
    from_it: int
    to_it: int


class _Forker:
    def __init__(self) -> None:
        self._children: dict[int, _Child] = {}
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ, None)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._rest = b""

    def serve(self) -> None:
        """Until the input ends."""
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._wake:
                    os.read(self._wake, 512)
                    self._reap()
                elif key.fd != 0:
                    self._heard(key.data)
                elif not self._orders():
                    return

    def kill_all(self) -> None:
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)

    def _orders(self) -> bool:
        data = os.read(0, 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if order["do"] == "run":
                self._run(order)
            elif child := self._children.get(order["id"]):
                if order["do"] == "signal":
                    os.kill(child.pid, order["number"])
                with contextlib.suppress(OSError):
                    # Also after a signal: what holds must be able to end in order.
                    os.write(child.to_it, b".")
        return bool(data)

    def _run(self, order: dict[str, Any]) -> None:
        from_it, for_it = os.pipe()
        to_it_read, to_it = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(order, for_it, to_it_read)
        os.close(for_it)
        os.close(to_it_read)
        self._children[order["id"]] = _Child(pid, from_it, to_it)
        self._selector.register(from_it, selectors.EVENT_READ, order["id"])
        _say(id=order["id"], pid=pid, **{"is": "started"})

    def _heard(self, id_: int) -> None:
        """It holds; or it has closed the pipe, and its end comes by the other way."""
        child = self._children.get(id_)
        if child is None or not child.from_it:
            return
        if os.read(child.from_it, 1):
            _say(id=id_, **{"is": "holding"})
        else:
            self._forget(child)

    def _reap(self) -> None:
        for id_, child in list(self._children.items()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._children[id_]
                self._forget(child)
                os.close(child.to_it)
                _say(id=id_, code=os.waitstatus_to_exitcode(status), **{"is": "ended"})

    def _forget(self, child: _Child) -> None:
        if child.from_it:
            self._selector.unregister(child.from_it)
            os.close(child.from_it)
            child.from_it = 0


def _say(**news: Any) -> None:
    os.write(1, json.dumps(news).encode() + b"\n")


def _become(order: dict[str, Any], tell: int, hear: int) -> None:
    """In the fork: be the program. Never returns."""
    code = 70
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for new, old in ((null, 0), (log, 1), (log, 2)):
            os.dup2(new, old)
        # Whatever else is open is the forking process's own, other programs' pipes among them.
        first, last = sorted((tell, hear))
        os.closerange(3, first)
        os.closerange(first + 1, last)
        os.closerange(last + 1, 4096)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        if order["hold"]:
            _hold_at_write(order["hold"], tell, hear)
        if order["ahead_s"]:
            _put_clock_ahead(order["ahead_s"])
        _PROGRAMS[order["command"][0]](order["command"])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _hold_at_write(number: int, tell: int, hear: int) -> None:
    """Before its `number`-th write to the store, counted from 1, say so and wait."""
    from runner.store import Store

    writes = 0

    def holding(write: Callable[..., Any]) -> Callable[..., Any]:
        def held(*args: Any, **kwargs: Any) -> Any:
            nonlocal writes
            writes += 1
            if writes == number:
                os.write(tell, b".")
                os.read(hear, 1)
            return write(*args, **kwargs)

        return held

    for name in ("put", "put_new"):
        setattr(Store, name, holding(getattr(Store, name)))


def _put_clock_ahead(seconds: float) -> None:
    """What passes take for the time of day; a Lease goes by the other clock."""
    from k8s import reconcile

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    reconcile.datetime = Ahead  # type: ignore[misc]


def _aicsweep(command: Sequence[str]) -> None:
    from runner.cli import main

    sys.argv = list(command)
    main()


def _controller(command: Sequence[str]) -> None:
    from k8s.controller import main

    main()


_PROGRAMS = {"aicsweep": _aicsweep, "k8s": _controller}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # All that the programs import on their way, which takes a plan pod a second.
    for module in (
        "_strptime", "obstore.store", "pandas.io.formats.csvs", "pyarrow.parquet", "scipy.stats",
        "k8s.controller", "runner.backends.fake", "runner.cli", "runner.pod", "runner.tables",
    ):  # fmt: skip
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    forker = _Forker()
    try:
        forker.serve()
    finally:
        forker.kill_all()


if __name__ == "__main__":
    main()
