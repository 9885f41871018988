"""A folder of this host as the place of a store, and its objects as files."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner.store_errors import Where, translate

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# No key has it: what a killed writer leaves in a folder is neither listed nor read.
UNFINISHED = "#"


@dataclass
class Folder:
    """A folder of this host, made when something is first written to it."""

    root: Path
    _writable: bool = field(default=False, init=False)
    endpoint = ""
    patience = None

    @property
    def url(self) -> str:
        return str(self.root)

    @property
    def folder(self) -> Path | None:
        return self.root

    def connect(self, *, writing: bool, probing: bool = False) -> ObjectStore:
        """obstore's client for the folder; one that is not there yet reads as empty."""
        from obstore.store import LocalStore, MemoryStore

        if writing and (probing or not self._writable):
            self._make()
        elif not self.root.is_dir():
            return MemoryStore()
        return LocalStore(self.root)

    def write(self, path: str, data: bytes | Path, *, new: bool) -> bool:
        """Write an object, bytes or a file's content; with `new` only where there is none (else False)."""
        if not self._writable:
            self._make()
        if isinstance(data, Path):
            return write_file(self.root / path, lambda file: shutil.copyfile(data, file), new=new)
        return write_file(self.root / path, lambda file: file.write_bytes(data), new=new)

    def unfinished(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """What killed writers left below `prefix`, sorted: names from there on."""
        root = self.root / prefix
        for path in sorted(root.rglob(f"*{UNFINISHED}*")):
            with suppress(FileNotFoundError):
                state = path.stat()
                if path.is_file():
                    yield path.relative_to(root).as_posix(), state

    def _make(self) -> None:
        """Make the folder and write to it once. By hand: obstore's LocalStore tries for ever, using all
        of a core, where a folder exists but files can't be made in it (seen with /proc)."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(bytes(4096))
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise translate(error, "write", Where(self.url)) from error
        self._writable = True


def read_file(path: str) -> bytes:
    """Bytes of an object of a folder store. Raises OSError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except (IsADirectoryError, NotADirectoryError) as error:
        # To S3 these are keys nobody has written.
        raise FileNotFoundError(path) from error


def write_file(path: Path, write: Callable[[Path], object], *, new: bool) -> bool:
    """Let `write` make a file of a folder store, whole or not at all; with `new` only where there is none
    (else False).

    By hand, at seven times obstore's rate for small files: no way through another thread.
    """
    temporary = path.with_name(f"{path.name}{UNFINISHED}{uuid.uuid4().hex}")
    try:
        try:
            write(temporary)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
        if not new:
            temporary.replace(path)
            return True
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        return True
    finally:
        temporary.unlink(missing_ok=True)
