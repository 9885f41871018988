"""Files of an artefact on this host, intact or not used: in place in a folder store, else copies in a cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
from pathlib import Path

from runner import scratch, transfer
from runner.artifact_records import FOLDER_DIGITS, Artifact, ArtifactFile, damaged
from runner.errors import StoreError
from runner.store import NotFound, Store

# Files found intact in this process, by path and digest: each is hashed once.
_verified: set[tuple[Path, str]] = set()
_verifying = threading.Lock()


def fetch(store: Store, artifact: Artifact, cache: Path) -> Path:
    """A local folder with the artefact's files under their plain names, to be read and never written to.

    A folder store's own files are used in place; otherwise they are downloaded, once, to
    `cache/<kind>/<key>/<content digest>/`, which is there as a whole or not at all. In either
    case sizes and digests are compared on first use in this process; a cached copy that fails
    is downloaded again. Raises StoreError naming the object that is damaged or missing.
    """
    in_place = store.local_path(artifact.folder_key)
    if in_place is not None:
        for name, file in artifact.files.items():
            _require_intact(in_place / name, file, store)
        return in_place
    cached = _cached(cache, artifact)
    if _is_cached(cached, artifact):
        return cached
    _download(store, artifact, cached)
    return cached


def _cached(cache: Path, artifact: Artifact) -> Path:
    return cache / artifact.kind / artifact.key / artifact.digest[:FOLDER_DIGITS]


def keep(artifact: Artifact, folder: Path, cache: Path) -> None:
    """Put our own files into the cache; where that fails they are fetched when they are needed."""
    target = _cached(cache, artifact)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        try:
            shutil.copytree(folder, temporary)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _download(store: Store, artifact: Artifact, target: Path) -> None:
    """Make `target` with all files, checked, by renaming; another process that does the same may win."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        for name, file in artifact.files.items():
            try:
                transfer.download(store, file.object_key, temporary / name)
            except NotFound as error:
                raise damaged(store, file.object_key, "is missing") from error
            _require_intact(temporary / name, file, store)
        try:
            temporary.rename(target)
        except OSError:
            if not _is_cached(target, artifact):
                raise
        else:
            _verified.update((target / name, file.sha256) for name, file in artifact.files.items())
    except OSError as error:
        # Not the store's fault: in a cluster this node gets the strike.
        raise StoreError(
            f"can't keep an artefact in {target}: {os.strerror(error.errno or 0)}",
            remedy="Make room there, or name another folder for the cache with XDG_CACHE_HOME.",
            reason=scratch.DISK,
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_cached(folder: Path, artifact: Artifact) -> bool:
    """Whether the folder holds the artefact intact; one that doesn't is taken out of the way."""
    if not folder.is_dir():
        return False
    if all(not _fault(folder / name, file) for name, file in artifact.files.items()):
        return True
    discarded = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        folder.rename(discarded)
    except FileNotFoundError:
        return False  # another process was quicker
    shutil.rmtree(discarded, ignore_errors=True)
    return False


def _require_intact(path: Path, file: ArtifactFile, store: Store) -> None:
    fault = _fault(path, file)
    if fault:
        raise damaged(store, file.object_key, fault)


def _fault(path: Path, file: ArtifactFile) -> str:
    """What is wrong with a local copy, or "". Sizes are compared each time, digests once a process."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes != file.size_bytes:
            return f"has {size_bytes} bytes instead of {file.size_bytes}"
        with _verifying:
            if (path, file.sha256) not in _verified:
                if digest_file(path) != file.sha256:
                    return "has another digest than its manifest says"
                _verified.add((path, file.sha256))
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return ""


def digest_file(path: Path) -> str:
    """SHA-256, hex, of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
