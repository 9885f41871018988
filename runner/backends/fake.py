"""The fake: AIC100's parameters, made-up numbers. Ships with the product for trying sweeps and testing flows.

Deterministic: the same cell gives the same numbers anywhere. Every row says `fake`. Faults and speed
are injected by the environment variable AICSWEEP_FAKE, a JSON object:

    {"sleep_s": 0.1,                              seconds each measurement really takes (default 0)
     "devices": 2,                                made-up cards (default 1)
     "contended": {"cores": 7},                   these were disturbed while measured
     "faults": [{"stage": "compile",              export, compile or run
                 "where": {"cores": 7},           cell fields (or device) that must be equal; empty: all
                 "verdict": "infeasible",         failed (default), infeasible, infrastructure, or
                                                  kill (this whole process), hang (until asked to end)
                 "reason": "no-memory"}]}
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from runner import keys, process, scratch
from runner.backends import Device, ExportReport, Measurement, Window, chosen
from runner.backends.qaic.flags import PARAMETERS, PRECISIONS, capacity, compile_flags, estimate
from runner.cells import Cell
from runner.errors import BadInput, Infeasible, Infrastructure, PointFailed, Problem
from runner.keys import ExportRequest

__all__ = ["PARAMETERS", "PRECISIONS", "capacity", "compile_flags", "estimate"]

NAME = "fake"
EMULATED = True
COMPILES_ON: Literal["host", "target"] = "host"
SETTINGS = "AICSWEEP_FAKE"
SAMPLES = 64


def compiler_version() -> str:
    return "fake-1"


def provenance() -> Mapping[str, str]:
    return {"fake": "1"}


class FakeExporter:
    """Writes a placeholder in place of a graph: no torch needed."""

    def versions(self, request: ExportRequest) -> Mapping[str, str]:
        return {"fake": "1"}

    def export(self, request: ExportRequest, folder: Path) -> ExportReport:
        _maybe_fail("export", request.content)
        with scratch.writing(folder):
            (folder / "model.onnx").write_bytes(keys.canonical({"fake": request.content}))
        return ExportReport(
            input_name="input", output_name="output", output_shape=(1, 1000), opset=request.opset,
            weights=request.weights, revision="fake", parameters=0, clipped_values=0, max_abs_error=None,
            relative_error=None, output_scale=None, export_s=0.0, peak_memory_bytes=0, versions={"fake": "1"},
        )  # fmt: skip


class FakeBench:
    """Answers with numbers drawn from the cell's own identity."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def measure(self, cell: Cell, graph: Path, binary: Path | None, report: ExportReport) -> Measurement:
        settings, fields = _settings(), _fields(cell)
        _maybe_fail("run", {**fields, "device": self.device.id})
        if pause_s := settings.get("sleep_s", 0):
            process.pause(pause_s)
        seed = keys.digest_bytes(keys.canonical(fields))
        random = np.random.default_rng(int(seed[:16], 16))
        # A card that scales well with cores and batch, and a network of 1 to 20 ms on one core.
        service_s = (1 + 19 * random.random()) / 1000 * cell.batch_size**0.9 / cell.cores**0.8
        windows = []
        for _ in range(cell.repeats):
            drift = 1 + 0.01 * random.standard_normal()
            latency_s = service_s * cell.set_size * drift
            latencies_s = latency_s * np.abs(1 + 0.03 * random.standard_normal(SAMPLES))
            windows.append(
                Window(cell.instances * cell.batch_size / (service_s * drift), latencies_s, cell.seconds)
            )
        disturbed = "contended" in settings and _fits(settings["contended"], fields)
        return Measurement(
            windows, load_s=0.0, warmup_s=0.0, device=self.device.target, input_digest="fake", output_digest="fake",
            contended="as AICSWEEP_FAKE says" if disturbed else "",
        )  # fmt: skip


@contextmanager
def open_exporter() -> Iterator[FakeExporter]:
    _settings()
    yield FakeExporter()


def devices(wanted: str) -> Sequence[Device]:
    """As many made-up cards as AICSWEEP_FAKE says (`devices`, default 1)."""
    there = [Device(str(number), f"fake-{number}") for number in range(int(_settings().get("devices", 1)))]
    return chosen(there, wanted)


@contextmanager
def open_bench(device: Device) -> Iterator[FakeBench]:
    yield FakeBench(device)


def compile(cell: Cell, graph: Path, folder: Path) -> None:
    _maybe_fail("compile", _fields(cell))
    with scratch.writing(folder):
        (folder / "programqpc.bin").write_bytes(keys.canonical({"fake": compile_flags(cell)}))


def _fields(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in Cell.__slots__}


def _settings() -> dict[str, Any]:
    text = os.environ.get(SETTINGS, "")
    if not text:
        return {}
    try:
        settings = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadInput([Problem(f"environment variable {SETTINGS}", f"is no JSON: {error}")]) from error
    return dict(settings)


def _fits(where: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    return all(content.get(name) == value for name, value in where.items())


def _maybe_fail(stage: str, content: Mapping[str, Any]) -> None:
    for fault in _settings().get("faults", ()):
        if fault.get("stage") != stage or not _fits(fault.get("where", {}), content):
            continue
        reason, verdict = fault.get("reason", "injected"), fault.get("verdict", "failed")
        if verdict == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if verdict == "hang":
            print(f"fault injected into {stage}: hangs", file=sys.stderr, flush=True)
            while True:
                process.pause(process.POLL_S)
        if verdict == "infrastructure":
            raise Infrastructure(f"fault injected into {stage}: {reason}", reason=reason)
        kind = Infeasible if verdict == "infeasible" else PointFailed
        raise kind(stage, reason, f"fault injected into {stage}: {reason}")
