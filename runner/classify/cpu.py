"""Measure on this machine's CPU with the `onnxruntime` backend of a sweep: one window of `--time` seconds."""

from __future__ import annotations

import importlib.metadata

import numpy as np

from runner import scratch
from runner.backends import ExportReport, Window, onnxruntime
from runner.classify import printed
from runner.classify.layout import Layout
from runner.classify.options import ONNXRUNTIME
from runner.classify.parameters import Parameters


def measure(parameters: Parameters, at: Layout, report: ExportReport) -> Window:
    """The window; the first output lies where a card's would. Raises PointFailed, Infeasible or Infrastructure."""
    (host,) = onnxruntime.devices("all")
    with onnxruntime.open_bench(host) as bench:
        measured = bench.measure(parameters.cell(ONNXRUNTIME), at.path(at.graph), None, report)
    (window,) = measured.windows
    output = scratch.fresh(at.path(at.outputs)) / f"{report.output_name}-activation-0-inf-0.bin"
    with scratch.writing(output):
        output.write_bytes(np.asarray(measured.output, dtype="<f4").tobytes())
    for warning in measured.warnings:
        others = f", others used {float(measured.facts['others_load']):.0%} of these cores meanwhile"
        printed.note(f"warning: {warning}{others if warning == onnxruntime.HOST_BUSY else ''}")
    if window.duration_s > parameters.time_s:
        printed.note(
            f"{parameters.time_s} s are too short for {parameters.set_size} requests in flight at this pace:"
            f" {window.duration_s:.1f} s were measured"
        )
    version = importlib.metadata.version("onnxruntime")
    printed.say(f"Measured by ONNX Runtime {version} on the CPU in fp32, not on a card:")
    printed.say(printed.statistics_line(window.throughput_images_s, window.duration_s, parameters.batch_size))
    return window
