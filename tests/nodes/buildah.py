"""buildah, with a storage of its own; and its images in the form in which a node takes them."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aicsweep" / "images"
STORAGE = FOLDER / "storage"
# In a layer that `thin` makes: where its content is.
LAYER = "aicsweep-layer"
# vfs, which works everywhere, writes an image with torch four times, 6 GB each.
_DRIVER = os.environ.get("STORAGE_DRIVER", "overlay")
COMMAND = ("buildah", f"--storage-driver={_DRIVER}", f"--root={STORAGE}", f"--runroot={FOLDER / 'run'}")
# Its mounts are nobody else's and go with it, also if it is killed.
_ALONE = ("unshare", "--mount", "--propagation", "private")
_KEPT = 2
# A lock, shared by all whose nodes run.
_IN_USE = "in-use"


def has(reference: str) -> bool:
    return _found(reference) is not None


def size(reference: str) -> int:
    """Bytes of its layers, unpacked."""
    known = {layer["id"]: layer for layer in _read("layers")}
    return sum(known[layer].get("diff-size", 0) for layer in _layers(reference))


def build(reference: str, dockerfile: Path, context: Path, work: Path, *options: str) -> None:
    """Raises RuntimeError with its last words."""
    how = ["--quiet", "--isolation=chroot", "--pull-never", "--layers=false", "--network=host"]
    what = ["--file", str(dockerfile), "--tag", reference, str(context)]
    run([*_ALONE, *COMMAND, "bud", *how, *options, *what], work)


def thin(reference: str, archive: Path) -> None:
    """Write a `docker save` of the image, but with layers that only say where the real ones are unpacked: a node of
    this machine need not have gigabytes once more (`tests.nodes.node`)."""
    described = json.loads(_output("inspect", "--type=image", reference))["OCIv1"]
    layers = [_tar({LAYER: str(STORAGE / _DRIVER / layer / "diff").encode()}) for layer in _layers(reference)]
    described["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    described.pop("history", None)
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": names}]
    files = {"config.json": json.dumps(described).encode(), "manifest.json": json.dumps(manifest).encode()}
    archive.write_bytes(_tar({**dict(zip(names, layers, strict=True)), **files}))


@contextmanager
def in_use() -> Iterator[None]:
    """While nodes stand on what the storage has unpacked (`thin`): nothing of it is removed, by any checkout."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / _IN_USE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def prune(name: str) -> None:
    """Of each image the newest stay: one with torch takes gigabytes. All stay while they are in use."""
    with (FOLDER / _IN_USE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _remove_old(name)


def _remove_old(name: str) -> None:
    mine = [(image["created"], n) for image in _read("images") for n in image.get("names") or ()]
    old = sorted((at, n) for at, n in mine if n.startswith(f"localhost/{name}:"))[:-_KEPT]
    if old:
        _output("rmi", *(n for _, n in old))


def run(command: list[str], work: Path) -> str:
    """What it prints. `work` holds its files. Raises RuntimeError with its last words."""
    environment = {**os.environ, "TMPDIR": str(work)}
    done = subprocess.run(command, text=True, capture_output=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
    return done.stdout


def _output(*command: str) -> str:
    return run([*_ALONE, *COMMAND, *command], FOLDER)


def _found(reference: str) -> Any:
    return next((image for image in _read("images") if reference in (image.get("names") or ())), None)


def _layers(reference: str) -> list[str]:
    """Lowest first."""
    parents = {layer["id"]: layer.get("parent", "") for layer in _read("layers")}
    found, layer = list[str](), _found(reference)["layer"]
    while layer:
        found.insert(0, layer)
        layer = parents[layer]
    return found


def _read(kind: str) -> Any:
    """The storage's list of its images or layers."""
    file = STORAGE / f"{_DRIVER}-{kind}" / f"{kind}.json"
    return json.loads(file.read_text()) if file.exists() else []


def _tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()
