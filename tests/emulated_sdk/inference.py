"""The runner's inputs and outputs: raw files in, one real inference by ONNX Runtime, raw files out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import Refused
from .qpc import Program

if TYPE_CHECKING:
    import numpy as np

_ENTRY_KEYS = {"path", "io-direction", "elem-size", "map-to", "dims"}
_FLOAT32_BYTES = 4


def inputs(program: Program, listing: str | None, files: list[str]) -> dict[str, Path]:
    """The first inference's input files by the graph's input names; empty for random ones. All are checked."""
    if listing:
        return _listed(program, Path(listing))
    if not files:
        return {}
    if len(program.inputs) != 1:
        raise Refused("EMULATED: -i serves graphs with one input only", 1)
    ((name, shape),) = program.inputs.items()
    for path in files:
        _check_size(Path(path), shape)
    return {name: Path(files[0])}


def _listed(program: Program, listing: Path) -> dict[str, Path]:
    try:
        inferences = json.loads(listing.read_text())["IO-files"]
        first: dict[str, Path] = {}
        for entries in inferences:
            found = dict(_entry(program, listing, entry) for entry in entries)
            if set(found) != set(program.inputs):
                raise ValueError(f"inputs {sorted(found)}, the graph has {sorted(program.inputs)}")
            first = first or found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"EMULATED: {listing}: {type(error).__name__} {error}", 1) from None
    if not first:
        raise Refused(f"EMULATED: {listing}: no inference", 1)
    return first


def _entry(program: Program, listing: Path, entry: dict[str, Any]) -> tuple[str, Path]:
    if set(entry) != _ENTRY_KEYS:
        raise ValueError(f"keys {sorted(entry)}")
    if entry["io-direction"] != "in" or entry["elem-size"] != _FLOAT32_BYTES:
        raise ValueError(f"{entry['io-direction']!r}, {entry['elem-size']!r}: only inputs of 4 bytes")
    name = entry["map-to"]
    if entry["dims"] != program.inputs[name]:
        raise ValueError(f"dims {entry['dims']}, the program has {program.inputs[name]}")
    path = listing.parent / entry["path"]
    _check_size(path, entry["dims"])
    return name, path


def _check_size(path: Path, shape: list[int]) -> None:
    expected = math.prod(shape) * _FLOAT32_BYTES
    if not path.is_file():
        raise Refused(f"EMULATED: no input file {path}", 1)
    if (size := path.stat().st_size) != expected:
        raise Refused(f"EMULATED: {path} has {size} bytes, {shape} of float32 need {expected}", 1)


def run(program: Program, onnx: bytes, files: dict[str, Path]) -> dict[str, np.ndarray]:
    """The outputs by name as float32, rounded through float16 unless the program is fp32."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {
        name: np.fromfile(files[name], dtype="<f4").reshape(shape)
        if files
        else random.uniform(-1, 1, shape).astype(np.float32)
        for name, shape in program.inputs.items()
    }
    kept = np.float32 if program.precision == "fp32" else np.float16
    outputs = session.run(program.outputs, feeds)
    return {
        name: array.astype(kept).astype(np.float32)
        for name, array in zip(program.outputs, outputs, strict=True)
    }


def write(
    folder: Path, outputs: dict[str, np.ndarray], fault: str, *, activations: int, first: int, count: int
) -> None:
    """One file for each output, activation and inference asked for; they differ by output only."""
    if fault == "no-output":
        return
    for name, output in outputs.items():
        data = _spoiled(output, fault)
        for activation in range(activations):
            for number in range(first, first + count):
                file = f"{name.replace('/', '_')}-activation-{activation}-inf-{number}.bin"
                (folder / file).write_bytes(data)


def _spoiled(output: np.ndarray, fault: str) -> bytes:
    import numpy as np

    if fault == "wrong-output":
        output = np.random.default_rng(1).permuted(output + output.std(), axis=-1)
    elif fault == "nan-output":
        output = np.full_like(output, np.nan)
    data = np.ascontiguousarray(output, dtype="<f4").tobytes()
    return data[: len(data) // 8 * 4] if fault == "short-output" else data
