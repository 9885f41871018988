"""A network small enough for a test, as the exporter would hand it over, at any image size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runner.backends import ExportReport
from runner.keys import ExportRequest

CHANNELS, CLASSES = 8, 10


def write_graph(folder: Path, request: ExportRequest) -> ExportReport:
    """`model.onnx` in `folder`: a convolution, pooling over the image, and a linear layer. Its weights belong to
    the request."""
    random = np.random.default_rng(int(request.id[:8], 16))

    def weight(name: str, *shape: int) -> Any:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    size = request.image_size
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "w"], ["c"], strides=[16, 16]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "v"], ["output"], transB=1),
        ],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", CLASSES])],
        [weight("w", CHANNELS, 3, 16, 16), weight("v", CLASSES, CHANNELS)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", request.opset)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    return ExportReport(
        input_name="input", output_name="output", output_shape=(CLASSES,), opset=request.opset,
        weights=request.weights, revision="of a test", parameters=0, clipped_values=0, max_abs_error=None,
        relative_error=None, output_scale=None, export_s=0.0, peak_memory_bytes=0, versions={},
    )  # fmt: skip
