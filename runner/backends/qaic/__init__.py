"""The `qaic` backend: AIC100 cards through the vendor's own tools.

    compile   qaic-compile or qaic-exec, on any x86-64 host (`compile_`)
    measure   qaic-util, qaic-runner, on a host with cards (`bench`)

`sdk` finds the tools, `flags` says their command lines, `verdicts` judges how they ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import orjson

from runner import scratch
from runner.backends import Bench, Device, Exporter, chosen
from runner.backends.qaic import compile_, device, sdk
from runner.backends.qaic.flags import PARAMETERS, PRECISIONS, capacity, compile_flags, estimate
from runner.cells import Cell
from runner.errors import Infrastructure

__all__ = ["PARAMETERS", "PRECISIONS", "capacity", "compile_flags", "estimate"]

NAME = "qaic"
EMULATED = False
COMPILES_ON: Literal["host", "target"] = "host"


def open_exporter() -> AbstractContextManager[Exporter]:
    """The common exporter; imported here so that measuring needs nothing of it."""
    from runner.stages import export

    return export.open_exporter()


def compiler_version() -> str:
    return sdk.find().compiler_version()


def compile(cell: Cell, graph: Path, folder: Path) -> None:
    """The program's files into `folder`, beside them the compiler's log and how it was called."""
    found = sdk.find()
    program = "program"
    done = compile_.compile_binary(
        found.compiler(),
        cell,
        graph=str(graph.absolute()),
        binary_dir=f"./{program}",
        cwd=folder,
        log=folder / compile_.LOG,
    )
    call = {"argv": done.argv, "seconds": done.seconds, "compiler": found.compiler_version()}
    with scratch.writing(folder):
        for path in (folder / program).iterdir():
            path.rename(folder / path.name)
        (folder / program).rmdir()
        (folder / compile_.CALL).write_bytes(orjson.dumps(call))


def provenance() -> Mapping[str, str]:
    """Versions of both halves of the SDK and of the kernel's driver; `unknown` where they don't say."""
    found = sdk.find()
    versions = {
        "sdk_apps": found.apps_version,
        "sdk_platform": found.platform_version,
        "qaic_driver": device.driver_version(),
    }
    return {name: version or "unknown" for name, version in versions.items()}


def devices(wanted: str) -> Sequence[Device]:
    """`all` are those that are Ready; a pod sees only what it was given, under whatever number."""
    found = sdk.find()
    found.runner()
    cards = device.query(found)
    there = [Device(str(card.qid), card.serial) for card in cards if card.ready or wanted != "all"]
    if not there:
        states = ", ".join(f"{card.qid}: {card.status or 'unknown'}" for card in cards)
        raise Infrastructure(
            f"no card is Ready ({states})",
            remedy="they may be booting, or their device nodes are not ours: join the group `qaic`;"
            " `aicsweep doctor` looks closer",
            reason="no-device",
        )
    return chosen(there, wanted)


@contextmanager
def open_bench(device: Device) -> Iterator[Bench]:
    """A bench on one card, locked against other aicsweep processes while it is open."""
    from runner.backends.qaic import bench, locks

    found = sdk.find()
    lock = locks.held(bench.lock_name(device.target), f"card {device.id}", limit_s=bench.LOCK_S)
    with lock, scratch.temporary() as folder:
        yield bench.CardBench(found, device, folder, bench.Limits())
