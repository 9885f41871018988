"""What stands in the way of running sweeps here: one line a thing looked at, ok or what to do.

Each check looks at one thing and never raises; `examine` strings them together. Nothing is changed
but a probe object in the store, if one is named.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import orjson
import psutil

from runner import __version__, scratch
from runner.errors import AicsweepError, Infrastructure, counted

if TYPE_CHECKING:
    from runner.backends.qaic import device, sdk

DEVICE_NODES = (("/dev/accel", "accel*"), ("/dev", "qaic_aic100_*"))
GROUP = "qaic"
# An export of the largest models takes about 4 GiB; artefacts of a large sweep a few.
LOW_MEMORY_BYTES = 4 * 2**30
LOW_DISK_BYTES, NO_DISK_BYTES = 10 * 2**30, 2**30
SHARED_MEMORY = Path("/dev/shm")
# What a container gets that asks for nothing; instances hand their tensors over in it.
LOW_SHARED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Check:
    """One thing looked at. `warn` limits what can be done here, `bad` prevents what was set up."""

    name: str
    level: Literal["ok", "warn", "bad"]
    text: str
    remedy: str = ""


def as_json(check: Check) -> str:
    """One line."""
    return orjson.dumps(asdict(check)).decode()


def examine(sdk_root: Path | None, store_url: str | None) -> Iterator[Check]:
    """Every check, in the order in which a sweep would meet them."""
    yield Check("aicsweep", "ok", f"{__version__}, Python {platform.python_version()}, {platform.machine()}")
    yield _cores()
    yield _memory()
    yield _shared_memory()
    yield from _folders()
    yield _export()
    yield from _weights()
    if store_url:
        yield _store(store_url)
    yield from _cards(sdk_root)


def _cores() -> Check:
    from runner.backends import host_cpu

    return Check("cores", "ok", host_cpu.usable().reason)


def _memory() -> Check:
    memory = psutil.virtual_memory()
    text = f"{_gib(memory.available)} of {_gib(memory.total)} free"
    if memory.available < LOW_MEMORY_BYTES:
        remedy = "the largest models need about 4 GiB to export, compilers more"
        return Check("memory", "warn", text, remedy)
    return Check("memory", "ok", text)


def _shared_memory() -> Check:
    remedy = f"in a container mount a volume in memory at {SHARED_MEMORY} (pods.shmSize of a Sweep)"
    if not SHARED_MEMORY.is_dir() or not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return Check("shm", "bad", f"{SHARED_MEMORY} is not there or can't be written", remedy)
    usage = shutil.disk_usage(SHARED_MEMORY)
    text = f"{SHARED_MEMORY}, {_gib(usage.free)} of {_gib(usage.total)} free"
    if usage.total <= LOW_SHARED_BYTES:
        return Check("shm", "warn", text, remedy)
    return Check("shm", "ok", text)


def _folders() -> Iterator[Check]:
    yield _folder("scratch", Path(tempfile.gettempdir()), "set TMPDIR to a folder with room")
    yield _folder("cache", scratch.artifact_cache(), "set XDG_CACHE_HOME to a folder with room")


def _folder(name: str, path: Path, remedy: str) -> Check:
    """Whether files can be made at `path` (or where it will be made) and how much room there is."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(name, "bad", f"{path} can't be written", remedy)
    free = shutil.disk_usage(there).free
    level: Literal["ok", "warn", "bad"] = "ok"
    if free < LOW_DISK_BYTES:
        level = "bad" if free < NO_DISK_BYTES else "warn"
    return Check(name, level, f"{path}, {_gib(free)} free", "" if level == "ok" else remedy)


def _export() -> Check:
    from runner.stages.export import PACKAGES

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "pip install 'aicsweep[export]'; without it only graphs that the store has can be used"
        return Check("export", "warn", f"{', '.join(missing)} not installed", remedy)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return Check("export", "ok", versions)


def _weights() -> Iterator[Check]:
    """Downloaded weights of torchvision and of the hub, where their libraries look for them."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    torch_home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    hub_home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    hub_cache = os.environ.get("HF_HUB_CACHE") or f"{hub_home}/hub"
    for name, folder, pattern in (
        ("TORCH_HOME", f"{torch_home}/hub/checkpoints", "*.pth"),
        ("HF_HOME", hub_cache, "models--*"),
    ):
        path = Path(folder).expanduser()
        count = len(list(path.glob(pattern))) if path.is_dir() else 0
        if count:
            yield Check("weights", "ok", f"{counted(count, 'model')} in {path}")
        else:
            remedy = f"`weights: pretrained` downloads them; offline, copy them and set {name}"
            yield Check("weights", "warn", f"none in {path}", remedy)


def _store(url: str) -> Check:
    from runner import store_check
    from runner.store import open_store

    try:
        store_check.check(open_store(url))
    except AicsweepError as error:
        return Check("store", "bad", error.message, error.remedy)
    return Check("store", "ok", f"{url}: can be written, read and listed")


def _cards(root: Path | None) -> Iterator[Check]:
    """The SDK, its tools, the device nodes, and what the cards say."""
    from runner.backends.qaic import sdk

    try:
        found = sdk.find(root)
    except Infrastructure as error:
        named = root is not None or os.environ.get(sdk.ENVIRONMENT)
        yield Check("SDK", "bad" if named else "warn", error.message, error.remedy)
        yield from _device_nodes()
        return
    yield _versions(found)
    yield _tool("compiler", found.compiler, "compiles elsewhere serve as well: share a store")
    runner = _tool("runner", found.runner, "this host can compile and not measure")
    query = _tool("query", found.query, "this host can compile and not measure")
    yield runner
    yield query
    nodes = list(_device_nodes())
    yield from nodes
    if query.level == "ok":
        yield from _card_checks(found)


def _versions(found: sdk.Sdk) -> Check:
    text = (
        f"{found.root} ({found.source}), Apps {found.apps_version or 'unknown'},"
        f" Platform {found.platform_version or 'unknown'}"
    )
    if found.apps_version or found.platform_version:
        return Check("SDK", "ok", text)
    remedy = f"versions/apps.xml and platform.xml below {found.root} say nothing; rows will not name the SDK"
    return Check("SDK", "warn", text, remedy)


def _tool(name: str, find: Callable[[], object], otherwise: str) -> Check:
    try:
        tool = find()
    except Infrastructure as error:
        return Check(name, "warn", error.message, f"{error.remedy}; {otherwise}")
    return Check(name, "ok", str(getattr(tool, "path", tool)))


def _device_nodes() -> Iterator[Check]:
    nodes = [node for folder, pattern in DEVICE_NODES for node in sorted(Path(folder).glob(pattern))]
    denied = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if denied:
        number = denied[0].stat().st_gid
        remedy = (
            f"join the group of the node (number {number}, usually `{GROUP}`): usermod -a -G {GROUP} $USER;"
            f" in a container it must have that number and be named {GROUP} in /etc/group"
        )
        yield Check("device nodes", "bad", f"no right to {', '.join(map(str, denied))}", remedy)
    elif nodes:
        yield Check("device nodes", "ok", ", ".join(map(str, nodes)))
    else:
        remedy = "no card, or its driver is not loaded: lspci -d 17cb:, lsmod | grep qaic, dmesg"
        yield Check("device nodes", "warn", "none in /dev/accel or /dev/qaic_aic100_*", remedy)


def _card_checks(found: sdk.Sdk) -> Iterator[Check]:
    from runner.backends.qaic import device, locks

    try:
        cards = device.query(found)
    except Infrastructure as error:
        yield Check("cards", "bad", error.message, error.remedy)
        return
    for card in cards:
        yield _card(card)
    if not any(card.ready for card in cards):
        yield Check("cards", "bad", "no card is Ready", "booting takes minutes; then look at dmesg")
    try:
        yield Check("locks", "ok", str(locks.folder()))
    except Infrastructure as error:
        yield Check("locks", "bad", error.message, error.remedy)


def _card(card: device.Card) -> Check:
    from runner.backends.qaic import gate

    name = f"card {card.qid}"
    temperature = "temperature unknown" if card.temperature_c is None else f"{card.temperature_c:g} degrees C"
    text = f"{card.status or 'status unknown'}, {card.sku or 'SKU unknown'}, {card.serial}, {card.use}, {temperature}"
    if not card.ready:
        return Check(
            name, "warn", text, "it will not be measured on; booting takes minutes, then look at dmesg"
        )
    if card.in_use:
        return Check(name, "warn", text, "somebody else is on it; sweeps wait for it shortly")
    if card.temperature_c is not None and card.temperature_c > gate.START_C:
        return Check(
            name, "warn", text, f"sweeps wait until it is below {gate.START_C:g}; look at its cooling"
        )
    return Check(name, "ok", text)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
