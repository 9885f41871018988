"""Local files and folders that tools read and write; what goes wrong with them is the host's fault."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from runner.errors import Infrastructure


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


def disk_error(where: str, why: str) -> Infrastructure:
    return Infrastructure(
        f"{where} can't be written: {why}",
        remedy="make room there, or set TMPDIR to a folder that is writable and has room",
        reason="disk",
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
