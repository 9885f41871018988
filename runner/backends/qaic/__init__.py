"""AIC100 cards. So far the half that plans: what fits, what is compiled, how long it takes.

Calling the vendor's compiler and runner is the next milestone; until then a run says so and stops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from runner.backends import Bench, Device, Exporter
from runner.backends.qaic.flags import PARAMETERS, PRECISIONS, capacity, compile_flags, estimate
from runner.cells import Cell
from runner.errors import Infrastructure

__all__ = ["PARAMETERS", "PRECISIONS", "capacity", "compile_flags", "estimate"]

NAME = "qaic"
EMULATED = False
COMPILES_ON: Literal["host", "target"] = "host"


def compiler_version() -> str:
    raise _not_yet()


def provenance() -> Mapping[str, str]:
    raise _not_yet()


def open_exporter() -> AbstractContextManager[Exporter]:
    # Before an hour of exports rather than after it.
    raise _not_yet()


def devices(wanted: str) -> Sequence[Device]:
    raise _not_yet()


def open_bench(device: Device) -> AbstractContextManager[Bench]:
    raise _not_yet()


def compile(cell: Cell, graph: Path, folder: Path) -> None:
    raise _not_yet()


def _not_yet() -> Infrastructure:
    return Infrastructure(
        "this version plans sweeps for AIC100 cards and does not run them yet",
        remedy="`--backend onnxruntime` measures this machine's CPU, `--backend fake` tries the flow",
    )
