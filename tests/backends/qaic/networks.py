"""A network small enough for a test, as the exporter would hand it over, and cells that fit it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runner.backends import ExportReport
from runner.cells import Cell
from runner.keys import ExportRequest

SIZE, CHANNELS, CLASSES = 32, 4, 10


def write_graph(folder: Path, seed: int = 0) -> Path:
    """`model.onnx` in `folder`: a convolution and a linear layer whose outputs are of order one."""
    random = np.random.default_rng(seed)
    convolved = CHANNELS * (SIZE // 2) ** 2

    def weight(name: str, *shape: int) -> Any:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Flatten", ["r"], ["f"]),
            helper.make_node("Gemm", ["f", "v"], ["output"], transB=1),
        ],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", CLASSES])],
        [weight("w", CHANNELS, 3, 3, 3), weight("v", CLASSES, convolved)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return path


REPORT = ExportReport(
    input_name="input", output_name="output", output_shape=(CLASSES,), opset=13, weights="random",
    revision="", parameters=0, clipped_values=0, max_abs_error=None, relative_error=None, output_scale=None,
    export_s=0.0, peak_memory_bytes=0, versions={},
)  # fmt: skip

CELL = Cell(
    source="onnx:small", weights="file", image_size=SIZE, opset=0, precision="fp16", backend="qaic",
    batch_size=2, cores=2, instances=7, set_size=3, seconds=5.0, repeats=2, hardware="std", ols=1,
    mos=None, extra=None, neighbours="same-card-idle",
)  # fmt: skip


class HandMade:
    """An exporter that needs no torch: the small network whatever is asked for."""

    def versions(self, request: ExportRequest) -> Mapping[str, str]:
        return {"by": "hand"}

    def export(self, request: ExportRequest, folder: Path) -> ExportReport:
        write_graph(folder)
        return REPORT


@contextmanager
def open_exporter() -> Iterator[HandMade]:
    yield HandMade()


def cell(**changes: Any) -> Cell:
    return replace(CELL, **changes)
