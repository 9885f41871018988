"""The processes that a tool leaves: a child that leads a session, its descendants, and how all of them are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import psutil

from runner.errors import Infrastructure

# Between SIGTERM and SIGKILL: a runner frees its card's resources in well under a second.
GRACE_S = 3.0
# After SIGKILL: only a process stuck in the kernel (a driver that hangs) outlives it.
KILL_S = 10.0


def end(child: subprocess.Popen[bytes], tool: str) -> None:
    """End the child, its descendants and its session: SIGTERM, a short grace, SIGKILL; then reap it. Raises
    Infrastructure where one of them can't be ended."""
    alive = _alive(_tree(child))
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, KILL_S)):
        if alive:
            # Again, for those forked meanwhile; those adopted by init are known from before.
            alive |= _tree(child)
            _signal_all(child, alive, number)
            alive = _gone_within(alive, wait_s)
    if alive:
        pids = ", ".join(str(pid) for pid in sorted(process.pid for process in alive))
        raise Infrastructure(
            f"{tool} (process {pids}) can't be ended, not even by SIGKILL",
            remedy="it hangs in the kernel, most likely in the card's driver; look at dmesg",
            reason="unkillable",
        )
    child.wait()


def _tree(child: subprocess.Popen[bytes]) -> set[psutil.Process]:
    """The child if it runs, its descendants, and what is left of its session (adopted by init meanwhile)."""
    members: set[psutil.Process] = set()
    with contextlib.suppress(psutil.Error):
        leader = psutil.Process(child.pid)
        members.update([leader, *leader.children(recursive=True)])
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) == child.pid:
                members.add(psutil.Process(pid))
    return members


def _signal_all(
    child: subprocess.Popen[bytes], processes: set[psutil.Process], number: signal.Signals
) -> None:
    # The group in one go, so that none forks away in between; then each, for those in other groups.
    with contextlib.suppress(OSError):
        os.killpg(child.pid, number)
    for process in _alive(processes):
        with contextlib.suppress(psutil.Error, OSError):
            process.send_signal(number)


def _gone_within(processes: set[psutil.Process], seconds: float) -> set[psutil.Process]:
    """Those still alive after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (alive := _alive(processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _alive(processes: set[psutil.Process]) -> set[psutil.Process]:
    alive = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            # A zombie is dead; an orphan may stay one where process 1 of a container does not reap.
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.add(process)
    return alive
