"""The emulated compiled program: one file that says what it is, what it was made of, and the graph itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .options import Refused
from .styles import NOTICE

NAME = "programqpc.bin"
_MAGIC = f"{NOTICE}\n".encode()


@dataclass(frozen=True)
class Program:
    """What the runner needs to know. `inputs` and `shape` have every dimension bound; `graph` is the
    SHA-256 of the ONNX file, `model` its path when compiled."""

    graph: str
    model: str
    inputs: dict[str, list[int]]
    outputs: list[str]
    cores: int
    batch: int
    stats_batch: int
    ols: int
    mos: int
    precision: str
    tuning: str
    statistics: bool


def write(path: Path, program: Program, onnx: bytes) -> None:
    path.write_bytes(_MAGIC + json.dumps(asdict(program)).encode() + b"\n" + onnx)


def read(folder: Path) -> tuple[Program, bytes]:
    """The program in `folder` and its ONNX graph."""
    path = folder / NAME
    if not path.is_file():
        raise Refused(f"Failed to open {path}\nProgram creation failed", 1)
    magic, _, rest = path.read_bytes().partition(b"\n")
    if magic + b"\n" != _MAGIC:
        raise Refused(f"Invalid qpc {path}\nProgram creation failed", 1)
    header, _, onnx = rest.partition(b"\n")
    return Program(**json.loads(header)), onnx


def constants(folder: Path) -> Sequence[Path]:
    """Binaries of an earlier compile in `folder`."""
    return [path for path in (folder / NAME, folder / "constants.bin") if path.exists()]
