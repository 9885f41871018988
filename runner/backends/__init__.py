"""What a backend is: a module that satisfies `Backend`, and a line in `BACKENDS`.

A backend turns an exported graph and a cell into a `Measurement`. It decides nothing about
what is wanted, ranks nothing and writes nothing to the store. Modules are imported only when
asked for, so that `plan` and `table` start without ONNX Runtime.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from runner.cells import Cell
from runner.errors import BadInput, Problem
from runner.keys import ExportRequest

# Every backend feeds images of N(0,1) drawn from this seed.
INPUT_SEED = 20240229


@dataclass(frozen=True)
class Capacity:
    """Cores that one target offers (`cores x instances` must fit) and how that is known."""

    cores: int
    reason: str


@dataclass(frozen=True)
class Device:
    """One device of this host: `id` is how tools address it (`0`, `cpu`), `target` how slots name it for
    ever (a card's serial, or the host)."""

    id: str
    target: str


@dataclass(frozen=True)
class Estimate:
    """Seconds one cell is expected to take, beyond its measuring windows."""

    overhead_s: float
    compile_s: float = 0.0


@dataclass(frozen=True)
class ExportReport:
    """What an exporter says of the graph it wrote as `model.onnx` into a folder.

    Errors compare the graph, run by ONNX Runtime in fp32, with the eager model on the same
    input; `relative_error` is the largest absolute difference over `output_scale`, the largest
    absolute output of the eager model. None where there is no eager model (an ONNX file).
    """

    input_name: str
    output_name: str
    output_shape: tuple[int, ...]
    opset: int
    weights: str
    revision: str
    parameters: int
    clipped_values: int
    max_abs_error: float | None
    relative_error: float | None
    output_scale: float | None
    export_s: float
    peak_memory_bytes: int
    versions: Mapping[str, str]


class Exporter(Protocol):
    """Answers export requests; opened once for many, since importing torch costs seconds."""

    def versions(self, request: ExportRequest) -> Mapping[str, str]:
        """Versions of everything that shapes the graph of `request`; part of its key. Cheap: no torch import."""
        ...

    def export(self, request: ExportRequest, folder: Path) -> ExportReport:
        """Write `model.onnx` (and `model.onnx.data` above 2 GB) into the empty `folder`.

        Raises PointFailed (stage `export`) for this model, BadInput where the request can't be met
        at all (pretrained weights that can't be had).
        """
        ...


@dataclass(frozen=True)
class Window:
    """One observation: a closed-loop run over a window of time.

    `latencies_s` has one entry per completed inference (a batch), from submission to completion
    in seconds, the wait in the queue included; `throughput_images_s` counts images.
    """

    throughput_images_s: float
    latencies_s: npt.NDArray[np.float64]
    duration_s: float


@dataclass(frozen=True)
class OutputCheck:
    """The device's first output against ONNX Runtime fp32 on the same graph and input.

    `relative_error` is over the reference's largest absolute output, `cosine` over all outputs,
    `top1_agreement` the share of the batch's images whose largest output is the same one.
    """

    max_abs_error: float
    relative_error: float
    cosine: float
    top1_agreement: float


@dataclass(frozen=True)
class Measurement:
    """All that a backend observed of one cell, raw. Statistics are made of it in `stats`; `output` is the
    first output, where the backend hands it out.

    `gate_s` was spent waiting for the device. `contended` says what changed around the measurement,
    which is then wanted again; empty if nothing did.
    """

    windows: Sequence[Window]
    load_s: float
    warmup_s: float
    gate_s: float = 0.0
    device: str = ""
    check: OutputCheck | None = None
    contended: str = ""
    peak_memory_bytes: int | None = None
    input_digest: str = ""
    output_digest: str = ""
    output: npt.NDArray[Any] | None = None
    warnings: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


class Bench(Protocol):
    """A device (or this host's CPU) made ready to measure one cell after the other."""

    def measure(self, cell: Cell, graph: Path, binary: Path | None, report: ExportReport) -> Measurement:
        """Gate, load, warm up, measure, check. `graph` is `model.onnx`, `binary` a compiled folder.

        Raises PointFailed or Infeasible for this point, Infrastructure where the device is at fault
        and the point stays wanted.
        """
        ...


class Backend(Protocol):
    """A module of this package."""

    NAME: str
    # True: numbers are made up; every row says so.
    EMULATED: bool
    # `host`: a binary is compiled off the target and kept; `target`: loading the graph compiles it.
    COMPILES_ON: Literal["host", "target"]
    # Cell fields that change what this backend measures; the others are left out of a cell's identity.
    PARAMETERS: frozenset[str]
    # Precisions it measures, its default first.
    PRECISIONS: Sequence[str]

    def capacity(self, hardware: str) -> Capacity: ...

    def estimate(self, cell: Cell) -> Estimate: ...

    def open_exporter(self) -> AbstractContextManager[Exporter]: ...

    def devices(self, wanted: str) -> Sequence[Device]:
        """Devices of this host: `wanted` is `all` or ids such as `0,2`.

        Raises BadInput for one that is not there (naming those that are), Infrastructure where none is.
        """
        ...

    def open_bench(self, device: Device) -> AbstractContextManager[Bench]: ...

    def compile_flags(self, cell: Cell) -> list[str]:
        """Every compiler flag of a cell, in order; equal lists (of one graph) share a binary."""
        ...

    def compiler_version(self) -> str: ...

    def compile(self, cell: Cell, graph: Path, folder: Path) -> None:
        """Write the binary into the empty `folder`. Called from several threads at once.

        Raises PointFailed or Infeasible (stage `compile`); reason `killed` where memory ran out.
        """
        ...

    def provenance(self) -> Mapping[str, str]:
        """Versions of the measuring tools, for every row."""
        ...


BACKENDS: Mapping[str, str] = {
    "onnxruntime": "runner.backends.onnxruntime",
    "qaic": "runner.backends.qaic",
    "fake": "runner.backends.fake",
}


def load(name: str) -> Backend:
    """The backend module called `name`."""
    return cast(Backend, importlib.import_module(BACKENDS[name]))


def chosen(there: Sequence[Device], wanted: str) -> Sequence[Device]:
    """Of the devices `there`, those that `wanted` names: `all` or ids such as `0,2`. Raises BadInput."""
    if wanted == "all":
        return there
    by_id = {device.id: device for device in there}
    ids = list(dict.fromkeys(part.strip() for part in wanted.split(",")))
    unknown = [
        Problem("--devices", f"no device {i!r} here", f"there are {', '.join(by_id)}")
        for i in ids
        if i not in by_id
    ]
    if unknown:
        raise BadInput(unknown)
    return [by_id[i] for i in ids]
