"""The instances of one cell, seen from the parent: start, ask all, wait with a limit, and end surely."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import TypeVar

from runner.backends import instance
from runner.errors import Infrastructure, PointFailed

Reply = TypeVar("Reply")

_CONTEXT = multiprocessing.get_context("forkserver")
# A killed process is reaped by the fork server, which takes milliseconds; more means a stuck kernel.
REAP_LIMIT_S = 5.0


def prepare() -> None:
    """Start the fork server: it imports numpy and ONNX Runtime once, and an instance starts in milliseconds.

    The command line's module is preloaded too, since every child imports the parent's main module
    again (the standard preload of `__main__` does nothing before Python 3.13, gh-126631).
    """
    preload = ["runner.backends.instance"]
    preload += [name for name in ("runner.cli",) if name in sys.modules]
    _CONTEXT.set_forkserver_preload(preload)
    from multiprocessing.forkserver import ensure_running

    ensure_running()


class Group:
    """Running instances; every answer is awaited from all of them together."""

    def __init__(self) -> None:
        self._processes: list[ForkServerProcess] = []
        self._pipes: list[Connection] = []

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid is not None]

    def start(self, job: instance.Job, life: Connection) -> None:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=instance.serve, args=(job, theirs, life), daemon=True)
        process.start()
        self._processes.append(process)
        self._pipes.append(ours)
        # Our copy would keep the pipe open after the instance died.
        theirs.close()

    def tell(self, message: instance.Drive | None) -> None:
        for index, pipe in enumerate(self._pipes):
            try:
                pipe.send(message)
            except OSError as error:
                raise self._failure(index) from error

    def quiet_until(self, when_ns: int) -> bool:
        """Sleep until `when_ns`; False as soon as an instance answers or dies before."""
        left = (when_ns - time.perf_counter_ns()) * 1e-9
        return not wait(self._pipes, timeout=max(0.0, left))

    def answers(self, kind: type[Reply], limit_s: float, doing: str) -> list[Reply]:
        """One answer of `kind` from each instance, in their order. `doing` completes "after 600 s of ...".

        Raises the instance's own PointFailed, or one for a dead instance (`killed`) or a passed
        limit (`time-limit`).
        """
        deadline = time.monotonic() + limit_s
        found: dict[int, Reply] = {}
        while len(found) < len(self._pipes):
            waiting = {self._pipes[i]: i for i in range(len(self._pipes)) if i not in found}
            ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                raise PointFailed("run", "time-limit", f"no answer after {limit_s:g} s of {doing}")
            for pipe in ready:
                index = waiting[pipe]  # type: ignore[index]
                found[index] = self._receive(index, kind)
        return [found[index] for index in range(len(self._pipes))]

    def _receive(self, index: int, kind: type[Reply]) -> Reply:
        try:
            answer = self._pipes[index].recv()
        except (EOFError, OSError) as error:
            raise self._failure(index) from error
        if isinstance(answer, PointFailed):
            raise answer
        if not isinstance(answer, kind):
            raise Infrastructure(f"instance {index} answered {answer!r} instead of {kind.__name__}")
        return answer

    def _failure(self, index: int) -> PointFailed:
        """The error of an instance that closed its pipe: its last words, else how it ended."""
        pipe, process = self._pipes[index], self._processes[index]
        try:
            if pipe.poll(0) and isinstance(answer := pipe.recv(), PointFailed):
                return answer
        except (EOFError, OSError):
            pass  # nothing was left to read: its exit code has to do
        process.join(REAP_LIMIT_S)
        return ended(index, process.exitcode)

    def kill(self) -> None:
        """End every instance at once, without asking: none holds anything that a clean exit would save."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join(REAP_LIMIT_S)
        for pipe in self._pipes:
            pipe.close()


def ended(index: int, exit_code: int | None) -> PointFailed:
    """PointFailed for an instance that ended without an answer."""
    if exit_code == -signal.SIGKILL:
        return PointFailed(
            "run",
            "killed",
            f"instance {index} was killed by SIGKILL, as the kernel does when memory runs out",
            remedy="give it more memory, or fewer instances, a smaller batch or a smaller set size",
        )
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return PointFailed("run", "killed", f"instance {index} was killed by {name}")
    return PointFailed("run", "killed", f"instance {index} ended without an answer (exit code {exit_code})")


@contextmanager
def running(jobs: Sequence[instance.Job]) -> Iterator[Group]:
    """A started instance for each job; none is left when the block ends, however it ends."""
    group = Group()
    theirs, ours = _CONTEXT.Pipe(duplex=False)
    try:
        for job in jobs:
            group.start(job, theirs)
        yield group
    finally:
        # Also ends an instance that was being started when Ctrl-C came and is in no list yet.
        ours.close()
        theirs.close()
        group.kill()
