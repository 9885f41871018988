"""What the artefacts in a model's directory were made of, so that a later `--run-only` uses them for nothing else.

model/export.json       the graph: model, weights, opset, image size, versions, digest
parameters-MOTIF.json   the binary: every parameter, the compiler, the digests of graph and binary
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from runner import __version__, scratch
from runner.backends import ExportReport
from runner.backends.qaic.compile_ import PROGRAM
from runner.classify.layout import GRAPH_DATA, Layout
from runner.classify.parameters import COMPILED, EXPORTED, Parameters
from runner.errors import BadInput, Problem

RECORD_BYTES = 2**20
Record = Mapping[str, Any]


def write_export(at: Layout, parameters: Parameters, report: ExportReport) -> None:
    """Record the graph that was just exported."""
    _write(
        at.export_record,
        {
            **_chosen(parameters, EXPORTED),
            "source": parameters.source,
            "graph_sha256": graph_digest(at),
            "report": asdict(report),
        },
    )


def write_binary(at: Layout, parameters: Parameters, facts: Record) -> None:
    """Record the binary that was just compiled; `facts` are the compiler's."""
    digests = {"graph_sha256": graph_digest(at), "program_sha256": _digest(at.path(at.binary) / PROGRAM)}
    _write(at.parameters, {**asdict(parameters), "source": parameters.source, **digests, **facts})


def forget(path: Path) -> None:
    """Before the artefact that a record describes is replaced."""
    with scratch.writing(path):
        path.unlink(missing_ok=True)


def read(path: Path) -> Record | None:
    """A record; None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            content = orjson.loads(file.read(RECORD_BYTES))
    except (OSError, orjson.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None


def export_problems(at: Layout, parameters: Parameters) -> list[Problem]:
    """Where the recorded graph is not the one asked for."""
    return _differences(at.graph, _chosen(parameters, EXPORTED), read(at.export_record) or {})


def binary_problems(at: Layout, parameters: Parameters) -> list[Problem]:
    """Where the recorded binary is not the one asked for, or its graph has been exported anew since."""
    record = read(at.parameters) or {}
    found = _differences(at.binary, _chosen(parameters, (*EXPORTED, *COMPILED)), record)
    digest = graph_digest(at)
    if not found and record.get("graph_sha256", digest) != digest:
        found.append(
            Problem(at.binary, f"was compiled from another {at.graph}", "run once without --run-only")
        )
    return found


def remade(at: Layout) -> bool:
    """Whether the binary is not one that was recorded: compiled by hand since, or by the vendor's script."""
    record = read(at.parameters) or {}
    return record.get("program_sha256") != _digest(at.path(at.binary) / PROGRAM)


def report(at: Layout, parameters: Parameters) -> ExportReport:
    """What is known of the graph: as recorded, else read from the graph itself (the vendor's script keeps no
    record). Raises BadInput."""
    record = read(at.export_record)
    if record is not None and record.get("graph_sha256") == graph_digest(at):
        kept = record["report"]
        return ExportReport(**{**kept, "output_shape": tuple(kept["output_shape"])})
    return _report_of(at, parameters)


def _report_of(at: Layout, parameters: Parameters) -> ExportReport:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    shape = (1, *parameters.shape[1:])
    try:
        session = onnxruntime.InferenceSession(at.path(at.graph), options, providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        output = session.run(None, {entry.name: np.zeros(shape, dtype=np.float32)})[0]
    except Exception as error:
        # ONNX Runtime raises a dozen kinds for a graph it can't load or feed.
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"does not take images of {'x'.join(map(str, shape))}: {text[:300]}"
        raise BadInput([Problem(at.graph, message, "run once without --run-only")]) from error
    return ExportReport(
        input_name=entry.name, output_name=session.get_outputs()[0].name, output_shape=output.shape[1:],
        opset=parameters.opset, weights="unknown", revision="unknown", parameters=0, clipped_values=0,
        max_abs_error=None, relative_error=None, output_scale=None, export_s=0.0, peak_memory_bytes=0,
        versions={},
    )  # fmt: skip


def graph_digest(at: Layout) -> str:
    """SHA-256 of the graph's files, hex."""
    graph = at.path(at.graph)
    return _digest(graph, graph.with_name(GRAPH_DATA))


def _differences(artefact: str, asked: Mapping[str, object], record: Record) -> list[Problem]:
    return [
        Problem(
            artefact,
            f"was made with {_option(name)} {_shown(record[name])}, not {_shown(value)}",
            f"add {_option(name)}={_shown(record[name])}, or run once without --run-only",
        )
        for name, value in asked.items()
        if name in record and record[name] != value
    ]


def _chosen(parameters: Parameters, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(parameters, name) for name in names}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: object) -> str:
    return '""' if value is None else f'"{value}"' if " " in str(value) else str(value)


def _write(path: Path, content: Record) -> None:
    data = orjson.dumps({"aicsweep": __version__, **content}, option=orjson.OPT_INDENT_2) + b"\n"
    part = path.with_name(f"{path.name}.part")
    with scratch.writing(path):
        part.write_bytes(data)
        part.replace(path)


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.exists():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
