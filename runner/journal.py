"""What a run on this machine has in flight, in a local file: who dies leaves it behind, and the next run knows.

    <cache>/inflight/<writer>     the sweep's place, then the items in flight, a line each

Two small writes into the page cache an item, no request to the store: a killed process loses nothing of them.
The file is locked for as long as its process lives, however that ends, so nobody takes a living run for a
dead one, also in another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# What a sweep died with is remembered for so long, if nobody goes on with it.
KEPT_S = 90 * 86_400


@dataclass
class Journal:
    """The open file of a run. Raises OSError where it can't be kept."""

    path: Path
    descriptor: int
    head: bytes
    _items: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def noted(self, item: str) -> Iterator[None]:
        """The item is in flight; whatever is raised meanwhile is no death."""
        self._write(lambda: self._items.append(item))
        try:
            yield
        finally:
            self._write(lambda: self._items.remove(item))

    def _write(self, change: Callable[[], None]) -> None:
        with self._lock:
            change()
            # A blank line ends it: what an earlier, longer list left behind it is not read.
            text = "".join(f"{item}\n" for item in self._items) + "\n"
            os.pwrite(self.descriptor, self.head + text.encode(), 0)

    def remove(self) -> None:
        """The run ended in order."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def begin(folder: Path, writer: str, sweep: str) -> Journal:
    """Begin the journal of a run on `sweep` (the URL of its folder). Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / writer
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    head = f"{sweep}\n".encode()
    os.pwrite(descriptor, head + b"\n", 0)
    return Journal(path, descriptor, head)


def left_behind(folder: Path, sweep: str) -> Iterator[tuple[str, list[str]]]:
    """Of each run on `sweep` that died here: its name, and what it had in flight. Once all was used of it, it is
    forgotten: whoever asks must have kept it by the time they ask for the next. Journals of other sweeps are removed
    once they are of no use any more. Raises OSError where locks are not to be had."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # It lives, it ended just now, or it is another person's.
        no_use = contextlib.suppress(BlockingIOError, FileNotFoundError, IsADirectoryError, PermissionError)
        # Open to be written to, though it is not: over NFS nothing else can be locked.
        with no_use, path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            whose, *lines = file.read().decode(errors="replace").split("\n")
            # A sweep's place is a path or a URL; what has none is no journal.
            if "/" not in whose or "" not in lines:
                continue
            items = lines[: lines.index("")]
            if whose == sweep:
                yield path.name, items
            elif items and time.time() - os.fstat(file.fileno()).st_mtime < KEPT_S:
                continue
            path.unlink(missing_ok=True)
