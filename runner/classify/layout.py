"""Names in a model's directory, the vendor's own. Pure.

The motif leaves out image size, opset, set size, extra flags, time and device: runs that differ only there
share directories. `records` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner.classify.parameters import Parameters

MODEL, INPUTS, OUTPUTS = "model", "inputFiles", "outputFiles"
GRAPH, GRAPH_DATA = "model.onnx", "model.onnx.data"


def motif(parameters: Parameters) -> str:
    """`B13-C7-A2-OLS2-MOS1-best-throughput`; a list of MOS keeps its commas."""
    p = parameters
    mos = f"-MOS{p.mos}" if p.mos else ""
    return f"B{p.batch_size}-C{p.cores}-A{p.instances}-OLS{p.ols}{mos}-{p.objective}"


@dataclass(frozen=True)
class Layout:
    """The directory of a model at `root` (absolute); texts beginning with `./` are relative to it, as tools
    are given them."""

    root: Path
    motif: str
    precision: str
    shape: tuple[int, ...]

    @property
    def graph(self) -> str:
        return f"./{MODEL}/{GRAPH}"

    @property
    def binary(self) -> str:
        return f"./compiled-bin-{self.precision}-{self.motif}"

    @property
    def outputs(self) -> str:
        return f"./{OUTPUTS}/{self.precision}-{self.motif}"

    @property
    def inputs(self) -> str:
        return f"./{INPUTS}"

    @property
    def listing(self) -> Path:
        return self.root / f"list_{'x'.join(map(str, self.shape))}.txt"

    @property
    def commands(self) -> Path:
        return self.root / f"commands-{self.motif}.txt"

    @property
    def parameters(self) -> Path:
        return self.root / f"parameters-{self.motif}.json"

    @property
    def export_record(self) -> Path:
        return self.root / MODEL / "export.json"

    def log(self, step: str) -> Path:
        return self.root / f"{step}-{self.motif}.log"

    def path(self, relative: str) -> Path:
        return self.root / relative


def layout(parameters: Parameters, start: Path, precision: str) -> Layout:
    """Where a run that starts in `start` works."""
    return Layout((start / parameters.model).absolute(), motif(parameters), precision, parameters.shape)
