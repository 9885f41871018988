"""Compiling through the emulated compilers: what success is, and the verdict on every way to fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.backends.qaic import compile_, sdk
from runner.errors import AicsweepError, BadInput, Infeasible, Infrastructure, PointFailed
from tests.backends.qaic.networks import cell, write_graph
from tests.emulated_sdk import Fault, Sdk, install

Compile = Callable[..., compile_.Compiled]


@pytest.fixture
def emulated(tmp_path: Path) -> Sdk:
    return install(tmp_path / "sdk", style="1.21")


@pytest.fixture
def compile_here(tmp_path: Path, emulated: Sdk) -> Compile:
    """Compile the small network below `tmp_path/work` with the emulated SDK."""
    work = tmp_path / "work"
    (work / "model").mkdir(parents=True)
    write_graph(work / "model")

    def call(point: object = None, limit_s: float = 60.0) -> compile_.Compiled:
        return compile_.compile_binary(
            sdk.find(emulated.root).compiler(),
            point or cell(),  # type: ignore[arg-type]
            graph="./model/model.onnx",
            binary_dir="./binary",
            cwd=work,
            log=work / "compile.log",
            limit_s=limit_s,
        )

    return call


@pytest.mark.parametrize("style", ["1.10", "1.19", "1.21"])
def test_each_compiler_takes_our_command_line(tmp_path: Path, style: str) -> None:
    emulated = install(tmp_path / "sdk", style=style)
    graph = write_graph(tmp_path)
    done = compile_.compile_binary(
        sdk.find(emulated.root).compiler(),
        cell(extra="-multicast-weights", mos="2"),
        graph=str(graph),
        binary_dir=str(tmp_path / "binary"),
        cwd=tmp_path,
        log=tmp_path / "log",
    )
    (call,) = emulated.calls()
    assert done.argv == (str(emulated.compiler), *call.argv)
    assert (tmp_path / "binary" / "programqpc.bin").stat().st_size > 0
    assert "Generated binary is present" in (tmp_path / "log").read_text()


def test_what_an_earlier_compile_left_is_removed_first(tmp_path: Path, compile_here: Compile) -> None:
    stale = tmp_path / "work" / "binary" / "stale"
    stale.parent.mkdir(parents=True)
    stale.touch()
    # The compiler refuses a folder that holds constants.
    (stale.parent / "constants.bin").touch()
    compile_here()
    assert not stale.exists()
    compile_here()


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("unsupported-operator", Infeasible, "unsupported-operator"),
        ("killed", PointFailed, "killed"),
        ("no-binary", PointFailed, "no-binary"),
        ("empty-binary", PointFailed, "no-binary"),
    ],
)
def test_a_failure_gets_its_verdict_and_leaves_no_binary(
    tmp_path: Path, emulated: Sdk, compile_here: Compile, fault: str, kind: type[AicsweepError], reason: str
) -> None:
    emulated.set_faults([Fault("compile", fault)])
    with pytest.raises(PointFailed) as caught:
        compile_here()
    assert (type(caught.value), caught.value.stage, caught.value.reason) == (kind, "compile", reason)
    assert not (tmp_path / "work" / "binary").exists()
    assert "Reading ONNX Model" in (tmp_path / "work" / "compile.log").read_text()


def test_the_operator_is_named(emulated: Sdk, compile_here: Compile) -> None:
    emulated.set_faults([Fault("compile", "unsupported-operator")])
    with pytest.raises(Infeasible, match=r"self_attn/ScatterND.* : Indices and updates"):
        compile_here()


def test_an_unknown_flag_is_the_points_fault_if_the_user_gave_it_and_stops_loudly_if_we_did(
    emulated: Sdk, compile_here: Compile
) -> None:
    with pytest.raises(Infeasible, match="does not know -no-such") as caught:
        compile_here(cell(extra="-multicast-weights -no-such=7"))
    assert caught.value.reason == "invalid-flag"
    emulated.set_faults([Fault("compile", "invalid-option")])
    with pytest.raises(BadInput, match="does not know -retained-state"):
        compile_here(cell(extra="-multicast-weights"))


def test_a_json_file_of_another_form_stops_loudly(emulated: Sdk, compile_here: Compile) -> None:
    emulated.set_faults([Fault("compile", "schema-error")])
    with pytest.raises(BadInput, match=r"json\.exception\.type_error\.302\] type must be string"):
        compile_here()


def test_a_hang_ends_at_the_limit_with_all_of_its_processes(emulated: Sdk, compile_here: Compile) -> None:
    emulated.set_faults([Fault("compile", "stubborn-hang")])
    with pytest.raises(PointFailed, match="had not ended after") as caught:
        compile_here(limit_s=4.0)
    assert caught.value.reason == "time-limit"
    assert emulated.calls()
    assert emulated.alive() == []


def test_a_folder_that_cant_be_written_is_the_hosts_fault(
    tmp_path: Path, emulated: Sdk, compile_here: Compile
) -> None:
    emulated.compiler.write_text("#!/bin/sh\necho 'write failed: No space left on device' >&2\nexit 1\n")
    with pytest.raises(Infrastructure) as caught:
        compile_here()
    assert caught.value.reason == "disk"
    (tmp_path / "work" / "compile.log").unlink()
    (tmp_path / "work" / "compile.log").mkdir()
    with pytest.raises(Infrastructure, match=r"compile\.log can't be written") as caught:
        compile_here()
    assert caught.value.reason == "disk"
