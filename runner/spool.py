"""Results on their way to a remote store: on this host's disk first, uploaded while measuring goes on.

    Recorder --`keep`--> <cache>/spool/<store>/<key> --(a thread)--> store, and the file is removed

So measuring never waits for the network, but where the spool is full: then until there is room again, and what
was measured is on disk before (`wait_for_room`). Nothing is dropped. What a killed process left is uploaded by the
next run that finds it (`adopt`); since keys are a writer's own and put-if-absent, it does no harm if two processes
do it at once. Files are fsynced: after a power cut one may be missing, but none is there without its content. A
folder store needs none of this.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from runner import environment, process, scratch
from runner.errors import AicsweepError, StoreError, counted
from runner.folder import UNFINISHED, write_file
from runner.patience import ENDING_S
from runner.result import SEGMENT_SUFFIX, decode_segment
from runner.store import Store, is_key

Say = Callable[[str], object]

# A pod's folder goes with the pod, unless it is on a claim.
_LATER = "the next run that finds them there uploads them"


def folder_of(home: Store) -> Path:
    """Where results for the sweep at `home` wait on this host."""
    name = hashlib.sha256(f"{home.endpoint} {home.url}".encode()).hexdigest()[:16]
    return scratch.cache() / "spool" / name


def adopt(home: Store, say: Say) -> None:
    """Upload what an earlier process on this host could not, but for segments that nobody could read: in the
    store they would be damage for ever. Raises StoreError, which says where all lies."""
    if not home.is_remote:
        return
    folder = folder_of(home)
    left = list(_keys_in(folder))
    if not left:
        return
    say(f"uploading {counted(len(left), 'file')} of results that an earlier run left in {folder}")
    for number, key in enumerate(left):
        try:
            if not _set_aside(folder, key, say):
                _upload(home, folder, key)
        except StoreError as error:
            raise _left_behind(error, len(left) - number, folder) from error
    _tidy(folder)


class Spool:
    """Of one process for one sweep. As a context it ends when all is in the store."""

    def __init__(self, home: Store, say: Say) -> None:
        self.folder = folder_of(home)
        self._home, self._say = home, say
        self._limit_bytes = int(environment.number(environment.SPOOL_MIB) * 2**20)
        # Keys and sizes, in the order they came; the first is being uploaded.
        self._waiting: deque[tuple[str, int]] = deque()
        self._bytes = 0
        self._failure: Exception | None = None
        self._closed = False
        self._changed = threading.Condition()
        # A daemon: it must not keep a process that gives up from ending.
        self._thread = threading.Thread(target=self._upload_all, name="spool", daemon=True)
        self._thread.start()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
            else:
                self._settle_or_leave()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
        _tidy(self.folder)

    def keep(self, key: str, data: bytes) -> None:
        """Take an object over, also where the spool is full. Raises StoreError if an upload has failed for good
        (then too it is kept on disk), and as `Store.keep` where this host's disk takes nothing."""
        try:
            write_file(self.folder / key, lambda file: _write_through(file, data), new=False)
        except OSError as error:
            self._say(f"{self.folder} can't be written ({error.strerror}): results go straight to the store")
            self._home.keep(key, data)
            return
        with self._changed:
            # After an interruption the same is kept again.
            if all(key != waiting for waiting, _ in self._waiting):
                self._waiting.append((key, len(data)))
                self._bytes += len(data)
            self._changed.notify_all()
            self._raise_failure()

    @property
    def is_full(self) -> bool:
        """Whether more waits than may: nothing further should be measured."""
        return self._bytes > self._limit_bytes

    def wait_for_room(self) -> None:
        """Until it is not full. Raises StoreError if an upload has failed for good, and Interrupted."""
        said = False
        with self._changed:
            while self.is_full and not self._failure:
                process.check_stopping()
                if not said:
                    said = True
                    self._say(f"{self.folder} is full ({self._bytes / 2**20:.0f} MiB): waiting for the store")
                self._changed.wait(process.POLL_S)
            self._raise_failure()

    def settle(self, limit_s: float | None = None) -> bool:
        """Wait until all that was taken over is in the store, at most so long; whether it is. Raises StoreError
        if an upload has failed for good."""
        deadline_s = None if limit_s is None else time.monotonic() + limit_s
        with self._changed:
            while self._waiting:
                self._raise_failure()
                left_s = None if deadline_s is None else deadline_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                self._changed.wait(left_s)
            self._raise_failure()
        return True

    def _finish(self) -> None:
        self._say_what_waits("waiting until the store has them")
        try:
            self.settle()
        except KeyboardInterrupt:
            self._settle_or_leave()
            raise

    def _settle_or_leave(self) -> None:
        """This process is ending: what is not uploaded soon stays on disk, and its person is told."""
        self._say_what_waits(f"uploading for up to {ENDING_S:.0f} s more")
        try:
            with contextlib.suppress(AicsweepError):
                self.settle(ENDING_S)
        finally:
            self._say_what_waits(f"left in {self.folder}; {_LATER}")

    def _say_what_waits(self, then: str) -> None:
        if count := len(self._waiting):
            self._say(f"{counted(count, 'file')} of results not yet in the store: {then}")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise _left_behind(self._failure, len(self._waiting), self.folder) from self._failure

    def _upload_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting or self._failure:
                    return
                key, size_bytes = self._waiting[0]
            try:
                _upload(self._home, self.folder, key)
            except Exception as error:
                # Whatever it is: who waits for this thread must not wait for ever.
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._waiting.popleft()
                self._bytes -= size_bytes
                self._changed.notify_all()


@contextlib.contextmanager
def opened(home: Store, say: Say) -> Iterator[Spool | None]:
    """A spool where the store is remote."""
    if not home.is_remote:
        yield None
        return
    with Spool(home, say) as spool:
        yield spool


def _upload(home: Store, folder: Path, key: str) -> None:
    path = folder / key
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return  # Another process has uploaded it: only then is it removed.
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from error
    home.keep(key, data)
    path.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    """Content before its name: after a power cut a file system may have kept the name alone."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _set_aside(folder: Path, key: str, say: Say) -> bool:
    """Whether the file is a segment that can't be read; it is given a name that no key has, and left there."""
    path = folder / key
    try:
        if key.endswith(SEGMENT_SUFFIX):
            decode_segment(path.read_bytes())
    except OSError:
        return False  # `_upload` says it.
    except ValueError as error:
        aside = path.with_name(f"{path.name}{UNFINISHED}damaged")
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
        say(f"{aside}: {error}; its results are lost, and their cells are measured again")
        return True
    return False


def _keys_in(folder: Path) -> Iterator[str]:
    """What lies there whole; a killed writer's litter has names that no key has."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and is_key(key := path.relative_to(folder).as_posix()):
            yield key


def _tidy(folder: Path) -> None:
    """Folders that are empty go."""
    for path in sorted(folder.rglob("*"), reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _left_behind(error: Exception, count: int, folder: Path) -> StoreError:
    message, remedy = (
        (error.message, error.remedy)
        if isinstance(error, AicsweepError)
        else (f"{type(error).__name__}: {error}", "")
    )
    remedy = f"{remedy} {counted(count, 'file')} of results: {folder}; {_LATER}."
    return StoreError(message, remedy=remedy.strip())
