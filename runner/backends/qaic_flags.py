"""What planning needs to know of AIC100: NSPs by SKU, compiler flags of a cell, times to expect.

Shared by the `qaic` backend and the fake that stands in for it.
"""

from __future__ import annotations

import shlex

from runner.backends import Capacity, Estimate
from runner.cells import Cell
from runner.spec import NSPS

PARAMETERS = frozenset({"hardware", "ols", "mos", "extra", "neighbours"})
PRECISIONS = ("fp16", "fp32", "int8")


def capacity(hardware: str) -> Capacity:
    """NSPs of one SoC of that SKU (vendor's architecture page)."""
    return Capacity(NSPS[hardware], f"NSPs of one {hardware} card")


def estimate(cell: Cell) -> Estimate:
    """From three published logs of the vendor's configurator: 2 s around each run (load, activate, unload),
    a discarded warm-up run, and 97 s (median) for one compile of ResNet-50."""
    return Estimate(overhead_s=2.0 * (cell.repeats + 1) + cell.seconds, compile_s=97.0)


def compile_flags(cell: Cell) -> list[str]:
    """The compiler's flags in the vendor's order; path, tool and -aic-hw-version are added when it is called."""
    flags = [f"-onnx-define-symbol=batch_size,{cell.batch_size}", "-aic-hw", f"-aic-num-cores={cell.cores}"]
    flags.append(f"-ols={cell.ols}")
    if cell.precision == "fp16":
        flags.append("-convert-to-fp16")
    elif cell.precision == "int8":
        flags += ["-convert-to-quantize", "-quantization-precision=Int8", "-use-random-input-data=gaussian"]
    flags += ["-compile-only", f"-stats-batchsize={cell.batch_size}", *shlex.split(cell.extra or "")]
    return [*flags, f"-mos={cell.mos}"] if cell.mos else flags
