"""One measurement at a time on a card, among all aicsweep processes of this user on this host.

Locks are advisory and end with the process that holds them, however it ends. Strangers' use of a card is
what the gate is for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from runner import process
from runner.errors import Infrastructure

ENVIRONMENT = "AICSWEEP_LOCKS"
POLL_S = 0.5
HOST = "host"


def folder() -> Path:
    """Where lock files lie: AICSWEEP_LOCKS, else a folder of this user's below the temporary one."""
    named = os.environ.get(ENVIRONMENT)
    path = Path(named) if named else Path(tempfile.gettempdir()) / f"aicsweep-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    # Somebody else's folder, or a link laid there, would make us write where they like.
    if not named and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid()):
        raise _unusable(path, "it belongs to somebody else")
    return path


@contextlib.contextmanager
def held(name: str, what: str, *, limit_s: float, shared: bool = False) -> Iterator[None]:
    """Hold the lock `name`, alone or `shared`. Raises Infrastructure (`device-locked`) after `limit_s`.

    `what` begins the sentence: `card 0`.
    """
    path = _path(name)
    with _opened(path) as descriptor:
        deadline = time.monotonic() + limit_s
        while not _taken(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise Infrastructure(
                    f"{what} is in use by another aicsweep{_by(path)}, still after {limit_s:g} s",
                    remedy="let it end, or choose other cards with --devices",
                    reason="device-locked",
                )
            process.pause(POLL_S)
        if not shared:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield


def holder(name: str) -> str:
    """The pid of whoever holds the lock alone; empty if nobody does."""
    path = _path(name)
    if not path.exists():
        return ""
    with _opened(path) as descriptor:
        return "" if _taken(descriptor, fcntl.LOCK_SH) else _pid(path) or "?"


def _path(name: str) -> Path:
    return folder() / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.lock"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    try:
        yield descriptor
    finally:
        # Closing gives the lock up.
        os.close(descriptor)


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(path: Path) -> str:
    with contextlib.suppress(OSError):
        text = path.read_text()[:20].strip()
        return text if text.isdigit() else ""
    return ""


def _by(path: Path) -> str:
    pid = _pid(path)
    return f" (process {pid})" if pid else ""


def _unusable(path: Path, why: str) -> Infrastructure:
    return Infrastructure(
        f"locks can't be kept in {path}: {why}",
        remedy=f"set {ENVIRONMENT} to a folder that is yours",
        reason="disk",
    )
