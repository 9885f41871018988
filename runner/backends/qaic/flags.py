"""What a cell means for AIC100: NSPs by SKU, compiler flags, times to expect, and the tools' command lines.

The planning half is shared by the `qaic` backend and the fake that stands in for it. Nothing here
calls a tool. The order of arguments is that of the vendor's own script.
"""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.axes import NSPS
from runner.backends import Capacity, Estimate
from runner.backends.qaic.sdk import Compiler
from runner.cells import Cell

PARAMETERS = frozenset({"hardware", "ols", "mos", "extra", "neighbours"})
PRECISIONS = ("fp16", "fp32", "int8")
# Rows a latency file may have; a file that reaches it is cut short.
SAMPLES = 999_999
_CONVERSION = {
    "fp16": ["-convert-to-fp16"],
    "fp32": [],
    "int8": ["-convert-to-quantize", "-quantization-precision=Int8", "-use-random-input-data=gaussian"],
}


def capacity(hardware: str) -> Capacity:
    """NSPs of one SoC of that SKU (vendor's architecture page)."""
    return Capacity(NSPS[hardware], f"NSPs of one {hardware} card")


def estimate(cell: Cell) -> Estimate:
    """From three published logs of the vendor's configurator: 2 s around each run (load, activate, unload), and
    a discarded warm-up run."""
    overhead_s = 2.0 * (cell.repeats + 1) + cell.seconds
    return Estimate(overhead_s, compile_s=compile_estimate_s(cell.cores))


def compile_estimate_s(cores: int) -> float:
    """From the same logs: 97 s for one compile of ResNet-50 (median). BERT's take longer the more cores there are,
    16 s on one and 121 s on twelve; to know which are long lets them begin early."""
    return 62.0 + 5.0 * cores


def compile_flags(cell: Cell) -> list[str]:
    """Every flag that decides what the binary contains, in the vendor's order; part of its key.

    Paths and what only tells one compiler from the other (-aic-hw-version, -compile-only) are not.
    """
    return [*_shape(cell), *_placement(cell), *_CONVERSION[cell.precision], *_statistics(cell)]


def _shape(cell: Cell) -> list[str]:
    return [f"-onnx-define-symbol=batch_size,{cell.batch_size}", "-aic-hw"]


def _placement(cell: Cell) -> list[str]:
    return [f"-aic-num-cores={cell.cores}", f"-ols={cell.ols}"]


def _statistics(cell: Cell) -> list[str]:
    extra = _words(cell.extra or "")
    return [f"-stats-batchsize={cell.batch_size}", *extra, *([f"-mos={cell.mos}"] if cell.mos else [])]


# Few texts stand in many cells, and splitting one takes 50 us.
@functools.lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def compile_argv(compiler: Compiler, cell: Cell, *, graph: str, binary_dir: str) -> list[str]:
    """The compiler's command line; paths stand in it as they are given."""
    return [
        str(compiler.path),
        f"-m={graph}",
        *_shape(cell),
        f"-aic-hw-version={compiler.hw_version}",
        *_placement(cell),
        *_CONVERSION[cell.precision],
        *(["-compile-only"] if compiler.compile_only else []),
        f"-aic-binary-dir={binary_dir}",
        *_statistics(cell),
    ]


@dataclass(frozen=True)
class RunnerInputs:
    """What the runner is fed: a JSON description where it takes one (`json`), else the raw files."""

    json: str | None
    files: Sequence[str]

    def argv(self) -> list[str]:
        if self.json is not None:
            return ["--aic-batch-json-input", self.json]
        return [word for file in self.files for word in ("-i", file)]


def run_argv(
    runner: Path, cell: Cell, *, binary_dir: str, out_dir: str, qid: str, inputs: RunnerInputs
) -> list[str]:
    """The runner's command line for one invocation, never with sudo. Device and set size are always said:
    their defaults differ between SDKs."""
    return [
        str(runner),
        "-t", binary_dir,
        "-a", str(cell.instances),
        "--time", str(whole_seconds(cell.seconds)),
        "--aic-profiling-type", "latency",
        "--aic-profiling-num-samples", str(SAMPLES),
        "--aic-profiling-out-dir", out_dir,
        "-write-output-dir", out_dir,
        "-S", str(cell.set_size),
        "-d", qid,
        *inputs.argv(),
    ]  # fmt: skip


def whole_seconds(seconds: float) -> int:
    """The runner takes whole seconds, one at least."""
    return max(1, math.ceil(seconds))
