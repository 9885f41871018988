"""A tree of the newest style with one small graph, and calls of its tools in the vendor's argument order."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.emulated_sdk import Card, Sdk, install

SHAPE, CLASSES = (3, 8, 8), 10


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


def make_desk(folder: Path, **settings: object) -> Desk:
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


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Style 1.21, a Standard and a Pro card."""
    made = make_desk(tmp_path / "desk", cards=[Card(), Card(sku="PCIe Pro")])
    yield made
    made.sdk.end_all()


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for 2 cores and batch 4, compiled once."""
    desk = make_desk(tmp_path_factory.mktemp("binary") / "desk")
    assert desk.compile().returncode == 0
    return desk.folder / "binary"


@pytest.fixture
def compiled(desk: Desk, binary: Path) -> Desk:
    """The desk with a copy of that program."""
    shutil.copytree(binary, desk.folder / "binary")
    return desk
