"""The card's output against ONNX Runtime in fp32 on the same graph and input.

Tolerances. fp16 keeps 11 bits, so one operator errs by 5e-4 relative; over a hundred layers errors that
are independent add up to about 5e-3 of the largest output. 0.05 is ten times that and far from what a
wrong graph, weight layout or input gives (order one); the cosine catches what is small everywhere but
has another direction. INT8 without calibration data has no such bound: it is compared and not judged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runner.backends import ExportReport, OutputCheck
from runner.backends.qaic import inputs
from runner.errors import PointFailed
from runner.result import WRONG_OUTPUT

# Largest relative error (over the reference's largest output) and least cosine, by precision.
TOLERANCE: Mapping[str, tuple[float, float]] = {"fp16": (0.05, 0.99), "fp32": (0.01, 0.999)}
# Images run at a time: bounds memory at large images. They don't depend on each other.
CHUNK_IMAGES = 4

Outputs = npt.NDArray[np.float32]


class References:
    """Reference outputs of the image stream, image by image, kept for each graph. One bench's, one thread's
    at a time."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Outputs] = {}

    def outputs(self, graph: Path, report: ExportReport, shape: tuple[int, ...], number: int = 0) -> Outputs:
        """Outputs (batch, values) for the `number`-th input of `shape`. Raises PointFailed."""
        first, until = number * shape[0], (number + 1) * shape[0]
        stat = graph.stat()
        key = (str(graph), stat.st_mtime_ns, stat.st_size, report.output_name, shape[1:])
        known = self._known.get(key)
        have = 0 if known is None else len(known)
        if have < until:
            fresh = _run(graph, report, inputs.images(have, until - have, shape[1:]))
            known = fresh if known is None else np.concatenate([known, fresh])
            self._known[key] = known
        assert known is not None
        return known[first:until]


def compare(actual: Outputs, reference: Outputs) -> OutputCheck:
    """Both (batch, values) and finite."""
    scale = float(np.abs(reference).max())
    error = float(np.abs(actual - reference).max())
    a, b = actual.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return OutputCheck(
        max_abs_error=error,
        relative_error=error / scale if scale else float(error > 0),
        cosine=float(a @ b) / norm if norm else float(error == 0),
        top1_agreement=float((actual.argmax(axis=1) == reference.argmax(axis=1)).mean()),
    )


def within(check: OutputCheck, precision: str) -> bool:
    """Whether an output is right as far as its precision can tell."""
    if precision not in TOLERANCE:
        return True
    most, least = TOLERANCE[precision]
    return check.relative_error <= most and check.cosine >= least


def read_output(folder: Path, report: ExportReport, batch: int) -> Outputs:
    """The first output of the first instance in `folder`, as (batch, values). Raises PointFailed."""
    suffix = "-activation-0-inf-0.bin"
    named = folder / f"{report.output_name}{suffix}"
    found = [named] if named.exists() else sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        raise PointFailed("run", WRONG_OUTPUT, f"the runner wrote {len(found)} outputs ...{suffix}, not 1")
    data = found[0].read_bytes()
    values = int(np.prod(report.output_shape))
    if len(data) != 4 * batch * values:
        message = (
            f"the card's output has {len(data)} bytes, {batch} x {values} float32 are {4 * batch * values}"
        )
        raise PointFailed("run", WRONG_OUTPUT, message)
    output = np.frombuffer(data, dtype="<f4").reshape(batch, values)
    if not np.isfinite(output).all():
        raise PointFailed("run", WRONG_OUTPUT, "the card's output holds values that are no numbers")
    return output


def wrong_output(check: OutputCheck, precision: str) -> PointFailed:
    most, least = TOLERANCE[precision]
    return PointFailed(
        "run",
        WRONG_OUTPUT,
        f"the card's output differs from ONNX Runtime fp32 by {check.relative_error:.3g} of the largest"
        f" (limit {most:g}), cosine {check.cosine:.4f} (limit {least:g}), top-1 alike in"
        f" {check.top1_agreement:.0%} of the batch",
        remedy="compiler flags, weights outside fp16's range, or a faulty card",
    )


def _run(graph: Path, report: ExportReport, pixels: Outputs) -> Outputs:
    # Measuring processes that import this need no ONNX Runtime until they compare.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Other cards of this host may be measuring: half of the cores are left to their runners.
    options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) // 2)
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        parts = [
            session.run([report.output_name], {report.input_name: pixels[start : start + CHUNK_IMAGES]})[0]
            for start in range(0, len(pixels), CHUNK_IMAGES)
        ]
    except Exception as error:
        # ONNX Runtime raises a dozen kinds for a graph it can't run.
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"ONNX Runtime can't run the graph for comparison: {text[:300]}"
        raise PointFailed("run", "reference", message) from error
    joined = np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])
    return joined.reshape(len(pixels), -1)
