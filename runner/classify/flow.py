"""The flow of one call: export, inputs, compile and run, compare."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from runner import scratch
from runner.backends import Exporter, ExportReport
from runner.backends.qaic import compare, compile_, inputs, run
from runner.backends.qaic.bench import Limits
from runner.backends.qaic.inputs import Inputs
from runner.classify import card, cpu, printed, records
from runner.classify.given import Given
from runner.classify.layout import GRAPH, GRAPH_DATA, MODEL, Layout
from runner.classify.options import PROGRAM, QAIC
from runner.classify.parameters import Parameters
from runner.classify.prepare import Prepared, prepare
from runner.errors import Infrastructure, PointFailed
from runner.stages import export

LIMITS = Limits()
OpenExporter = Callable[[float], AbstractContextManager[Exporter]]


def classify(
    given: Given, start: Path, open_exporter: OpenExporter = export.open_exporter, limits: Limits = LIMITS
) -> None:
    """Do what the command line asks for, in a directory below `start`, and print the result.

    `open_exporter` takes the time limit of an export in seconds. Raises AicsweepError.
    """
    wanted = prepare(given, start)
    if given.timeout:
        limits = replace(limits, run_margin_s=float(given.timeout))
    at, parameters = wanted.at, wanted.parameters
    with _directory(at):
        report = wanted.report or _export(wanted, open_exporter)
        fed = _inputs(at, parameters, report)
        suspect = _measure(wanted, report, fed, limits)
        _compare(wanted, report)
    if suspect:
        raise suspect


@contextlib.contextmanager
def _directory(at: Layout) -> Iterator[None]:
    """The model's directory, its outputs empty, locked against a second call that would overwrite what this
    one uses."""
    with scratch.writing(at.root):
        at.root.mkdir(exist_ok=True)
        descriptor = os.open(at.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with scratch.writing(at.root):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"another {PROGRAM} works in {at.root}"
                remedy = "wait for it, or start in another directory"
                raise Infrastructure(message, remedy=remedy, reason="directory-locked") from error
        scratch.fresh(at.path(at.outputs))
        yield
    finally:
        os.close(descriptor)


def _export(wanted: Prepared, open_exporter: OpenExporter) -> ExportReport:
    """The graph anew; what lay there stays until the new one is whole."""
    p, at = wanted.parameters, wanted.at
    source = f"{p.source}, {p.weights} weights"
    printed.banner(f"Export {p.model}", source, f"opset {p.opset}", f"images 3x{p.image_size}x{p.image_size}")
    folder = scratch.fresh(at.root / ".export")
    try:
        with open_exporter(wanted.given.timeout or export.TIME_LIMIT_S) as exporter:
            report = exporter.export(p.cell(wanted.backend).export_request, folder)
        records.forget(at.export_record)
        with scratch.writing(at.root / MODEL):
            (at.root / MODEL).mkdir(exist_ok=True)
            for name in (GRAPH, GRAPH_DATA):
                old, new = at.root / MODEL / name, folder / name
                new.replace(old) if new.exists() else old.unlink(missing_ok=True)
    finally:
        scratch.remove(folder)
    records.write_export(at, p, report)
    printed.say(
        f"{at.graph}: weights {report.weights} ({report.revision}), {report.parameters} parameters,"
        f" {report.clipped_values} values clipped to fp16's range, {report.export_s:.1f} s"
    )
    return report


def _inputs(at: Layout, parameters: Parameters, report: ExportReport) -> Inputs:
    """One random input, its description for the runner, and the list file."""
    fed = inputs.write(at.path(at.inputs), report.input_name, parameters.shape, 1)
    with scratch.writing(at.listing):
        at.listing.write_text(",".join(f"{at.inputs}/{name}" for name in fed.files))
    return fed


def _measure(wanted: Prepared, report: ExportReport, fed: Inputs, limits: Limits) -> PointFailed | None:
    """Compile and run, or measure the CPU; prints throughput and latency. What makes them suspect, if anything."""
    p, at = wanted.parameters, wanted.at
    if wanted.sdk is None or wanted.card is None:
        printed.banner(f"Run {p.model} on the CPU", *printed.run_facts(p))
        printed.latency(cpu.measure(p, at, report).latencies_s)
        return None
    if not wanted.given.run_only:
        printed.banner(f"Compile {p.model}", *printed.compile_facts(p, at.precision))
        card.compile(wanted.sdk, p, at, wanted.given.timeout or compile_.LIMIT_S)
    elif records.remade(at):
        printed.note(f"warning: {at.binary} is not what {at.parameters.name} describes: compiled by hand?")
    printed.banner(f"Run {p.model} on card {p.device}", *printed.run_facts(p))
    invocation, changed = card.measure(wanted.sdk, wanted.card, p, at, fed, limits)
    printed.latency(invocation.latencies.round_trip_s)
    for warning in (*invocation.warnings, *([f"contended, {changed}"] if changed else [])):
        printed.note(f"warning: {warning}")
    return run.littles_law([invocation], p.cell(QAIC))


def _compare(wanted: Prepared, report: ExportReport) -> None:
    """Print the first output beside that of ONNX Runtime. Raises PointFailed where it is missing or wrong."""
    p, at = wanted.parameters, wanted.at
    printed.banner(f"Compare {p.model} with ONNX Runtime", "fp32", "same input")
    actual = compare.read_output(at.path(at.outputs), report, p.batch_size)
    reference = compare.References().outputs(at.path(at.graph), report, p.shape)
    device = "the CPU" if wanted.sdk is None else f"card {p.device}"
    printed.comparison(report.output_name, actual, reference, device)
    check = compare.compare(actual, reference)
    if not compare.within(check, at.precision):
        raise compare.wrong_output(check, at.precision)
