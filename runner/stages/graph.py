"""The exported graph: written, clipped to fp16's range, checked against the eager network. Workers only."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch.onnx._internal.torchscript_exporter import symbolic_opset14

from runner.backends import ExportReport
from runner.catalogue import ONNX
from runner.errors import PointFailed
from runner.keys import ExportRequest, digest_bytes
from runner.stages import networks

INPUT, OUTPUT, BATCH = "input", "output", "batch_size"
FP16_MAX = 65504.0
# Largest absolute difference over the largest absolute output. fp32 sums in another order differ by
# about 1e-6 a layer; a wrong graph differs by order one.
TOLERANCE = 1e-3
CHECK_IMAGES = 2
PROTOBUF_LIMIT = 2**31 - 2**20


def write(request: ExportRequest, folder: Path) -> ExportReport:
    """Answer `request` in this process. Raises PointFailed or BadInput."""
    started = time.monotonic()
    torch.manual_seed(networks.SEED)
    torch.set_num_threads(max(1, torch.get_num_threads()))
    report = (
        _from_file(request, folder)
        if request.source.startswith(f"{ONNX}:")
        else _from_network(request, folder)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return replace(report, export_s=time.monotonic() - started, peak_memory_bytes=peak)


def _from_network(request: ExportRequest, folder: Path) -> ExportReport:
    network, weights, revision = networks.load(request)
    size = request.image_size
    generator = torch.Generator().manual_seed(networks.SEED + 1)
    pixels = torch.randn(CHECK_IMAGES, 3, size, size, generator=generator)
    expected = networks.output_of(network, pixels).numpy()
    path = folder / "model.onnx"
    # torch has this operator from opset 14 on; its translation uses nothing that 13 lacks.
    if request.opset < 14:
        register: Any = torch.onnx.register_custom_op_symbolic  # type: ignore[attr-defined]
        attention = symbolic_opset14.scaled_dot_product_attention
        register("aten::scaled_dot_product_attention", attention, request.opset)
    torch.onnx.export(
        network,
        (pixels[:1],),
        str(path),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=request.opset,
        dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
        do_constant_folding=True,
        dynamo=False,
    )
    model = onnx.load(str(path))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset != request.opset:
        raise PointFailed("export", "opset", f"asked for opset {request.opset}, the exporter wrote {opset}")
    clipped = _clip_and_save(model, path)
    actual = _run(path, INPUT, pixels.numpy())
    error, scale = _compare(expected, actual)
    return ExportReport(
        input_name=INPUT,
        output_name=OUTPUT,
        output_shape=tuple(expected.shape[1:]),
        opset=opset,
        weights=weights,
        revision=revision,
        parameters=sum(p.numel() for p in network.parameters()),
        clipped_values=clipped,
        max_abs_error=error,
        relative_error=error / scale,
        output_scale=scale,
        export_s=0.0,
        peak_memory_bytes=0,
        versions={},
    )


def _from_file(request: ExportRequest, folder: Path) -> ExportReport:
    data = Path(request.location).read_bytes()
    if f"{ONNX}:{digest_bytes(data)}" != request.source:
        raise PointFailed("export", "changed", f"{request.location} changed since the sweep was planned")
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:
        # onnx raises protobuf's, its own and C++ errors for a damaged file.
        raise PointFailed("export", "not-onnx", f"{request.location}: {_first_line(error)}") from error
    weights = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    shape = [d.dim_value or d.dim_param for d in inputs[0].type.tensor_type.shape.dim] if inputs else []
    if len(inputs) != 1 or len(shape) != 4 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise PointFailed("export", "inputs", f"{request.location} needs one float32 input batch x 3 x S x S")
    if isinstance(shape[0], int) and shape[0] > 0:
        raise PointFailed(
            "export", "static-batch", f"{request.location} has a fixed batch of {shape[0]}",
            remedy="export it again with a dynamic first axis",
        )  # fmt: skip
    if any(isinstance(edge, int) and edge not in (0, request.image_size) for edge in shape[2:]):
        raise PointFailed(
            "export", "image-size", f"{request.location} takes {shape[2]}x{shape[3]}", remedy="set grid.imageSize"
        )  # fmt: skip
    _name_dimensions(model.graph, inputs[0], request.image_size)
    path = folder / "model.onnx"
    clipped = _clip_and_save(model, path)
    pixels = np.random.default_rng(0).standard_normal(
        (CHECK_IMAGES, 3, request.image_size, request.image_size)
    )
    output = _run(path, inputs[0].name, pixels.astype(np.float32))
    return ExportReport(
        input_name=inputs[0].name,
        output_name=model.graph.output[0].name,
        output_shape=tuple(output.shape[1:]),
        opset=max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        weights="file",
        revision=request.source.partition(":")[2],
        parameters=sum(int(np.prod(i.dims)) for i in model.graph.initializer),
        clipped_values=clipped,
        max_abs_error=None,
        relative_error=None,
        output_scale=float(np.abs(output).max()),
        export_s=0.0,
        peak_memory_bytes=0,
        versions={},
    )


def _name_dimensions(graph: Any, pixels: Any, image_size: int) -> None:
    """Call the batch what our own exports call it (compilers bind it by name) and fix the image's size."""
    dims = pixels.type.tensor_type.shape.dim
    batch = dims[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if batch and dim.dim_param == batch:
                dim.dim_param = BATCH
    dims[0].dim_param = BATCH
    unset = [
        (dim, size)
        for dim, size in zip(dims[1:], (3, image_size, image_size), strict=True)
        if not dim.dim_value
    ]
    for dim, size in unset:
        dim.dim_value = size
    if unset:
        # Shapes noted under the names that are gone would contradict.
        del graph.value_info[:]


def _clip_and_save(model: Any, path: Path) -> int:
    """Clip float32 constants to fp16's range and save if any was outside; returns how many values."""
    clipped = 0
    for tensor in _tensors(model.graph):
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        outside = int(np.count_nonzero(np.abs(values) > FP16_MAX))
        if outside:
            clipped += outside
            tensor.CopyFrom(numpy_helper.from_array(np.clip(values, -FP16_MAX, FP16_MAX), tensor.name))
    large = model.ByteSize() > PROTOBUF_LIMIT
    path.unlink(missing_ok=True)
    onnx.save(model, str(path), save_as_external_data=large, location="model.onnx.data" if large else None)
    return clipped


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)


def _run(path: Path, name: str, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    output: np.ndarray[Any, Any] = session.run(None, {name: pixels})[0]
    return output


def _compare(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> tuple[float, float]:
    scale = float(np.abs(expected).max())
    if (
        not np.isfinite(expected).all()
        or scale == 0
        or np.allclose(expected[0], expected[1], rtol=0, atol=1e-5 * scale)
    ):
        raise PointFailed(
            "export", "degenerate-output", f"output of the eager network is useless (largest {scale:.3g})"
        )
    error = float(np.abs(expected - actual).max())
    if not error <= TOLERANCE * scale:
        raise PointFailed(
            "export", "numeric-check",
            f"largest difference {error:.3g} at outputs up to {scale:.3g}: {error / scale:.2g} > {TOLERANCE:g}",
        )  # fmt: skip
    return error, scale


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
