"""One ONNX Runtime session with its requests: buffers bound once, so that running copies nothing.

The only module that imports onnxruntime to measure with; runs in an instance's process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Since 1.29 the official wheels start an uploader thread and a database in the home folder on
# import, and only this, set before, prevents it: it would share the cores under test, need a
# writable home, and not survive a fork.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnxruntime

from runner.backends import INPUT_SEED

PROVIDER = "CPUExecutionProvider"
# The exception carries the message; the same text on the terminal would tear the progress display.
_LOG_FATAL_ONLY = 4


@dataclass(frozen=True)
class Session:
    """`infer(request)` runs one inference; a request is a binding of one input to its own output."""

    infer: Callable[[Any], object]
    requests: Sequence[Any]
    outputs: Sequence[npt.NDArray[Any]]


def options(cores: int, *, spinning: bool) -> Any:
    """Session options: `cores` threads inside an operator, operators one after the other, all optimisations.

    With an explicit thread count ONNX Runtime leaves affinity alone, so that its threads
    inherit the mask of the process; with the default count it pins them over the whole host.
    """
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = cores
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    chosen.log_severity_level = _LOG_FATAL_ONLY
    return chosen


def normal_inputs(count: int, shape: tuple[int, ...]) -> list[npt.NDArray[np.float32]]:
    """`count` distinct buffers of N(0,1), the same in every process."""
    source = np.random.default_rng(INPUT_SEED)
    return [source.standard_normal(shape, dtype=np.float32) for _ in range(count)]


def digest(arrays: Sequence[npt.NDArray[Any]]) -> str:
    """SHA-256 over the arrays' bytes in order, hex."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()


def open_session(
    graph: Path,
    *,
    input_name: str,
    output_name: str,
    inputs: Sequence[npt.NDArray[np.float32]],
    cores: int,
    spinning: bool,
) -> Session:
    """Load `graph` and bind each of `inputs` to an output buffer of its own.

    The first input is run once to learn the output's shape; its result stands in `outputs[0]`.
    """
    session = onnxruntime.InferenceSession(
        os.fspath(graph), options(cores, spinning=spinning), providers=[PROVIDER]
    )
    trial = session.run([output_name], {input_name: inputs[0]})[0]
    requests, outputs = [], []
    for array in inputs:
        # Both values are views of numpy's memory: results appear in `outputs` without a copy.
        result = np.array(trial)
        binding = session.io_binding()
        binding.bind_ortvalue_input(input_name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        binding.bind_ortvalue_output(output_name, onnxruntime.OrtValue.ortvalue_from_numpy(result))
        requests.append(binding)
        outputs.append(result)
    return Session(session.run_with_iobinding, requests, outputs)


def versions() -> dict[str, str]:
    """What measured, for every row."""
    return {
        "onnxruntime": str(onnxruntime.__version__),
        "onnxruntime_build": str(onnxruntime.get_build_info()),
        "execution_provider": PROVIDER,
        "numpy": np.__version__,
    }
