"""Local files and folders that tools read and write; what goes wrong with them is the host's fault."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from runner.errors import Infrastructure

# Why something is missing: this host's disk is full, or can't be written.
DISK = "disk"
# Of files: this host has no room for them.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PREFIX = "aicsweep-scratch-"
# A folder is made a moment before it is locked.
_LITTER_AFTER_S = 60.0


def cache() -> Path:
    """This user's folder for what may be thrown away, but for what waits in its `spool`."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "aicsweep"


def artifact_cache() -> Path:
    """Where this user's copies of artefacts lie."""
    return cache() / "artifacts"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translates OSError of whatever writes to `path` into Infrastructure (reason `disk`)."""
    try:
        yield
    except OSError as error:
        raise disk_error(str(error.filename or path), error.strerror or str(error)) from error


def disk_error(where: str, why: str, variable: str = "TMPDIR") -> Infrastructure:
    """`variable` of the environment names the folder."""
    return Infrastructure(
        f"{where} can't be written: {why}",
        remedy=f"make room there, or set {variable} to a folder that is writable and has room",
        reason=DISK,
    )


def remove(path: Path) -> None:
    """Remove a folder and all in it, if it is there; of a link only the link."""
    with writing(path), contextlib.suppress(FileNotFoundError):
        path.unlink() if path.is_symlink() else shutil.rmtree(path)


def fresh(path: Path) -> Path:
    """An empty folder at `path`; what was there is removed."""
    remove(path)
    with writing(path):
        path.mkdir(parents=True)
    return path


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    """An empty folder for a piece of work, removed after it. What killed processes left is removed before a
    process makes its first: a folder in use is locked, and the kernel unlocks those of the dead."""
    root = Path(tempfile.gettempdir())
    _remove_litter(root)
    with writing(root):
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(lock)
        shutil.rmtree(path, ignore_errors=True)


@functools.cache
def _remove_litter(root: Path) -> None:
    """Once a process. Others' folders, and those that can't be looked at, stay."""
    for path in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(lock)
                if found.st_uid == os.getuid() and time.time() - found.st_mtime > _LITTER_AFTER_S:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
