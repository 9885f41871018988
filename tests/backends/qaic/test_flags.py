"""The tools' command lines, word by word, and what of them is part of a binary's key."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.backends.qaic import flags
from runner.backends.qaic.flags import RunnerInputs
from runner.backends.qaic.sdk import Compiler
from tests.backends.qaic.networks import cell

EXEC = Compiler(Path("/opt/qti-aic/exec/qaic-exec"), "2.0", compile_only=True)
COMPILE = Compiler(Path("/opt/qti-aic/exec/qaic-compile"), "ai100", compile_only=False)
POINT = cell(
    batch_size=13, cores=7, instances=2, ols=2, mos="1", extra="-multicast-weights -use-producer-dma=1"
)


def test_qaic_exec_is_called_as_the_vendors_script_calls_it() -> None:
    argv = flags.compile_argv(EXEC, POINT, graph="./model/model.onnx", binary_dir="./compiled-bin-fp16-X")
    assert argv == [
        "/opt/qti-aic/exec/qaic-exec",
        "-m=./model/model.onnx",
        "-onnx-define-symbol=batch_size,13",
        "-aic-hw",
        "-aic-hw-version=2.0",
        "-aic-num-cores=7",
        "-ols=2",
        "-convert-to-fp16",
        "-compile-only",
        "-aic-binary-dir=./compiled-bin-fp16-X",
        "-stats-batchsize=13",
        "-multicast-weights",
        "-use-producer-dma=1",
        "-mos=1",
    ]


def test_qaic_compile_differs_in_the_hardwares_name_and_never_runs_the_program() -> None:
    old = flags.compile_argv(EXEC, POINT, graph="m", binary_dir="b")
    new = flags.compile_argv(COMPILE, POINT, graph="m", binary_dir="b")
    assert set(old) - set(new) == {str(EXEC.path), "-aic-hw-version=2.0", "-compile-only"}
    assert set(new) - set(old) == {str(COMPILE.path), "-aic-hw-version=ai100"}


@pytest.mark.parametrize("compiler", [EXEC, COMPILE])
def test_the_key_holds_what_is_said_to_any_compiler_in_its_order(compiler: Compiler) -> None:
    argv = flags.compile_argv(compiler, POINT, graph="m", binary_dir="b")
    key = flags.compile_flags(POINT)
    assert [word for word in argv if word in key] == key
    assert {word.partition("=")[0] for word in argv[1:] if word not in key} - {"-compile-only"} == {
        "-m",
        "-aic-hw-version",
        "-aic-binary-dir",
    }


def test_what_belongs_to_the_run_is_no_part_of_the_key() -> None:
    assert flags.compile_flags(POINT) == flags.compile_flags(
        cell(batch_size=13, cores=7, instances=1, set_size=9, seconds=1, repeats=1, hardware="pro",
             ols=2, mos="1", extra="-multicast-weights -use-producer-dma=1")
    )  # fmt: skip


def test_extra_flags_are_split_as_a_shell_would() -> None:
    flag_list = flags.compile_flags(cell(extra=" -node-precision-info='a b.yaml'  -v"))
    assert flag_list[-2:] == ["-node-precision-info=a b.yaml", "-v"]


def test_int8_and_fp32_are_not_converted_to_fp16() -> None:
    assert "-convert-to-fp16" not in flags.compile_flags(cell(precision="fp32"))
    int8 = flags.compile_flags(cell(precision="int8"))
    assert "-quantization-precision=Int8" in int8
    assert "-convert-to-fp16" not in int8


def test_the_runner_is_called_as_the_vendors_script_calls_it() -> None:
    argv = flags.run_argv(
        Path("/opt/qti-aic/exec/qaic-runner"),
        cell(instances=2, set_size=4, seconds=20),
        binary_dir="./compiled-bin-fp16-X",
        out_dir="./outputFiles/fp16-X",
        qid="3",
        inputs=RunnerInputs("./inputFiles/aic_batch_io.json", ()),
    )
    assert " ".join(argv) == (
        "/opt/qti-aic/exec/qaic-runner -t ./compiled-bin-fp16-X -a 2 --time 20 --aic-profiling-type latency"
        " --aic-profiling-num-samples 999999 --aic-profiling-out-dir ./outputFiles/fp16-X"
        " -write-output-dir ./outputFiles/fp16-X -S 4 -d 3"
        " --aic-batch-json-input ./inputFiles/aic_batch_io.json"
    )


def test_a_runner_without_json_gets_each_raw_file() -> None:
    assert RunnerInputs(None, ("a.raw", "b.raw")).argv() == ["-i", "a.raw", "-i", "b.raw"]


@pytest.mark.parametrize(("asked", "said"), [(0.05, 1), (1, 1), (1.2, 2), (20.0, 20)])
def test_the_runners_time_is_whole_seconds(asked: float, said: int) -> None:
    assert flags.whole_seconds(asked) == said
