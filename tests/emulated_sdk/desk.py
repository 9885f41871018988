"""For the emulator's own tests: a folder with one small graph, and calls of the tools in the vendor's order."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.emulated_sdk import Sdk, install

SHAPE, CLASSES = (3, 8, 8), 10
STATISTICS = re.compile(r"InferenceCnt (\d+) TotalDuration (\d+)us BatchSize (\d+) Inf/Sec (\d+\.\d{3})\n")


def statistics(text: str) -> tuple[int, int, int, float]:
    """Count, microseconds, batch and rate of the one statistics line in `text`."""
    (found,) = STATISTICS.findall(text)
    return int(found[0]), int(found[1]), int(found[2]), float(found[3])


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition of the world; the test's own time limit ends what never comes."""
    while not (found := condition()):
        time.sleep(0.02)
    return found


def write_graph(path: Path) -> None:
    """A linear classifier with a dynamic batch, named as the project's exports are."""
    weights = np.random.default_rng(0).standard_normal((np.prod(SHAPE), CLASSES)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["output"]),
        ],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", *SHAPE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", CLASSES])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@dataclass
class Desk:
    """A working folder with `model.onnx` and an input, and the tools of a tree. Arguments given replace or
    (None) remove one of the usual ones; what is returned is the ended process."""

    sdk: Sdk
    folder: Path

    def call(self, tool: Path, *argv: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(tool), *map(str, argv)], cwd=self.folder, capture_output=True, text=True, check=False
        )

    def compile(self, *more: str, **changes: object) -> subprocess.CompletedProcess[str]:
        return self.call(self.sdk.compiler, *self.compile_argv(**changes), *more)

    def compile_argv(self, **changes: object) -> list[str]:
        exec_ = self.sdk.compiler.name == "qaic-exec"
        usual = {
            "m": "model.onnx", "onnx_define_symbol": "batch_size,4", "aic_hw": True,
            "aic_hw_version": "2.0" if exec_ else "ai100", "aic_num_cores": 2, "ols": 1,
            "convert_to_fp16": True, "compile_only": exec_ or None, "aic_binary_dir": "binary",
            "stats_batchsize": 4,
        }  # fmt: skip
        argv = []
        for name, value in (usual | changes).items():
            flag = "-" + name.replace("_", "-")
            argv += [] if value is None else [flag] if value is True else [f"{flag}={value}"]
        return argv

    def run(self, *more: str, **changes: object) -> subprocess.CompletedProcess[str]:
        return self.call(self.sdk.runner, *self.run_argv(**changes), *more)

    def run_argv(self, **changes: object) -> list[str]:
        (self.folder / "out").mkdir(exist_ok=True)
        usual = {
            "-t": "binary", "-a": 3, "--time": 20, "--aic-profiling-type": "latency",
            "--aic-profiling-num-samples": 999999, "--aic-profiling-out-dir": "out",
            "-write-output-dir": "out", "-S": 2, "-d": 0,
            "--aic-batch-json-input": "io.json",
        }  # fmt: skip
        kept = {name: value for name, value in (usual | changes).items() if value is not None}
        return [str(word) for item in kept.items() for word in item]

    def query(self, *argv: object) -> subprocess.CompletedProcess[str]:
        return self.call(self.sdk.util, "-q", *argv)

    def fields(self, qid: int = 0) -> dict[str, str]:
        """What the query shows of one card."""
        lines = self.query("-d", qid).stdout.splitlines()
        return dict(line.strip().split(":", 1) for line in lines if line.startswith("\t"))

    def rows(self, name: str = "aic-profiling-program-1-latency.txt") -> list[dict[str, str]]:
        """A latency file, by column."""
        header, *lines = (self.folder / "out" / name).read_text().splitlines()[4:]
        return [dict(zip(header.split(", "), line.split(", "), strict=True)) for line in lines]

    def latency_files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "out").glob("*latency.txt"))

    def output(self) -> np.ndarray:
        return np.fromfile(self.folder / "out" / "output-activation-0-inf-0.bin", np.float32)

    def fp32(self) -> np.ndarray:
        """What ONNX Runtime gives for the same input."""
        session = onnxruntime.InferenceSession(self.folder / "model.onnx", providers=["CPUExecutionProvider"])
        pixels = np.fromfile(self.folder / "input.raw", np.float32).reshape(4, *SHAPE)
        return np.asarray(session.run(None, {"input": pixels})[0]).ravel()


def make_desk(folder: Path, **settings: Any) -> Desk:
    folder.mkdir(exist_ok=True)
    write_graph(folder / "model.onnx")
    pixels = np.random.default_rng(1).standard_normal((4, *SHAPE)).astype(np.float32)
    pixels.tofile(folder / "input.raw")
    entry = {
        "path": "input.raw",
        "io-direction": "in",
        "elem-size": 4,
        "map-to": "input",
        "dims": [4, *SHAPE],
    }
    (folder / "io.json").write_text(json.dumps({"IO-files": [[entry]]}))
    return Desk(install(folder / "sdk", **settings), folder)
