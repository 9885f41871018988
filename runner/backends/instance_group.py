"""The instances of one cell, seen from the parent: start, ask all, wait with a limit, and end surely."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from runner.backends.instance import Drive, Job
from runner.backends.instance_server import InstanceServer
from runner.errors import Infrastructure, PointFailed

Reply = TypeVar("Reply")


@dataclass
class _Instance:
    """`life` is never written to: closing it ends the process. `exit_code` once its end was awaited."""

    pipe: Connection
    life: Connection
    pid: int = 0
    exit_code: int | None = None


class Group:
    """Running instances; every answer is awaited from all of them together."""

    def __init__(self, server: InstanceServer) -> None:
        self._server = server
        self._instances: list[_Instance] = []

    @property
    def pids(self) -> list[int]:
        return [one.pid for one in self._instances]

    def start(self, job: Job) -> None:
        pipe, their_pipe = multiprocessing.Pipe()
        # One for each: the kernel tells a single process of a pipe's end, so sharing one leaves orphans.
        their_life, life = multiprocessing.Pipe(duplex=False)
        # Listed before it runs: Ctrl-C in between still closes `life`.
        self._instances.append(_Instance(pipe, life))
        # Our copies of its ends would keep the pipe open after the instance died.
        with their_pipe, their_life:
            self._instances[-1].pid = self._server.start(job, their_pipe, their_life)

    def tell(self, message: Drive | None) -> None:
        for index, one in enumerate(self._instances):
            try:
                one.pipe.send(message)
            except OSError as error:
                raise self._failure(index) from error

    def quiet_until(self, when_ns: int) -> bool:
        """Sleep until `when_ns`; False as soon as an instance answers or dies before."""
        left = (when_ns - time.perf_counter_ns()) * 1e-9
        return not wait([one.pipe for one in self._instances], timeout=max(0.0, left))

    def answers(self, kind: type[Reply], limit_s: float, doing: str) -> list[Reply]:
        """One answer of `kind` from each instance, in their order. `doing` completes "after 600 s of ...".

        Raises the instance's own PointFailed, or one for a dead instance (`killed`) or a passed
        limit (`time-limit`).
        """
        deadline = time.monotonic() + limit_s
        found: dict[int, Reply] = {}
        while len(found) < len(self._instances):
            waiting = {one.pipe: index for index, one in enumerate(self._instances) if index not in found}
            ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                raise PointFailed("run", "time-limit", f"no answer after {limit_s:g} s of {doing}")
            for pipe, index in waiting.items():
                if pipe in ready:
                    found[index] = self._receive(index, kind)
        return [found[index] for index in range(len(self._instances))]

    def _receive(self, index: int, kind: type[Reply]) -> Reply:
        try:
            answer = self._instances[index].pipe.recv()
        except (EOFError, OSError) as error:
            raise self._failure(index) from error
        if isinstance(answer, PointFailed):
            raise answer
        if not isinstance(answer, kind):
            raise Infrastructure(f"instance {index} answered {answer!r} instead of {kind.__name__}")
        return answer

    def _failure(self, index: int) -> PointFailed:
        """The error of an instance that closed its pipe: its last words, else how it ended."""
        one = self._instances[index]
        try:
            if one.pipe.poll(0) and isinstance(answer := one.pipe.recv(), PointFailed):
                return answer
        except (EOFError, OSError):
            pass  # nothing was left to read: its exit code has to do
        one.exit_code = self._server.exit_code(one.pid)
        return ended(index, one.exit_code)

    def end(self) -> None:
        """End every instance at once, without asking: none holds anything that a clean exit would save."""
        for one in self._instances:
            one.life.close()
            one.pipe.close()
        # Without a server there is nobody to ask, they die all the same, and the next start says so.
        with contextlib.suppress(Infrastructure):
            for one in self._instances:
                if one.pid and one.exit_code is None:
                    one.exit_code = self._server.exit_code(one.pid)


def ended(index: int, exit_code: int) -> PointFailed:
    """PointFailed for an instance that ended without an answer; a negative exit code is a signal's number."""
    if exit_code == -signal.SIGKILL:
        return PointFailed(
            "run",
            "killed",
            f"instance {index} was killed by SIGKILL, as the kernel does when memory runs out",
            remedy="give it more memory, or fewer instances, a smaller batch or a smaller set size",
        )
    how = f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with {exit_code}"
    return PointFailed("run", "killed", f"instance {index} {how} without an answer")


@contextmanager
def running(server: InstanceServer, jobs: Sequence[Job]) -> Iterator[Group]:
    """A started instance for each job; none is left when the block ends, however it ends."""
    group = Group(server)
    try:
        for job in jobs:
            group.start(job)
        yield group
    finally:
        group.end()
