"""`--run-only`: what it does not do again, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import emulated_sdk
from tests.classify.conftest import Call, SmallExporter

ARGV = ["-m", "alexnet", "-c", "2", "-i", "2", "-b", "1"]
MOTIF = "B1-C2-A2-OLS2-MOS1-best-throughput"


@pytest.fixture
def home(start: Path, sdk: emulated_sdk.Sdk, call: Call, exporter: SmallExporter) -> Path:
    """The directory of a run with `ARGV`."""
    assert call(*ARGV).code == 0
    exporter.requests.clear()
    return start / "alexnet"


def test_neither_export_nor_compile_happens_again(
    home: Path, sdk: emulated_sdk.Sdk, call: Call, exporter: SmallExporter
) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    ended = call(*ARGV, "-r")
    assert (ended.code, ended.err.count("warning")) == (0, 0)
    assert exporter.requests == []
    assert len(sdk.calls("qaic-compile")) == 1
    assert len(sdk.calls("qaic-runner")) == 2
    kept = {path for path, stamp in stamps.items() if path.exists() and path.stat().st_mtime_ns == stamp}
    assert {str(path.relative_to(home)).partition("/")[0] for path in kept} == {
        "model", f"compiled-bin-fp16-{MOTIF}", f"compile-{MOTIF}.log", f"parameters-{MOTIF}.json",
    }  # fmt: skip
    assert "Inf/Sec" in ended.out
    assert "Latency (95pct)" in ended.out


def test_parameters_of_the_run_alone_may_differ(home: Path, sdk: emulated_sdk.Sdk, call: Call) -> None:
    sdk.set_cards([emulated_sdk.Card(), emulated_sdk.Card()])
    assert call(*ARGV, "-r", "--set-size", "5", "--time", "3", "-d", "1").code == 0
    argv = list(sdk.calls("qaic-runner")[-1].argv)
    assert [argv[argv.index(name) + 1] for name in ("-S", "--time", "-d")] == ["5", "3", "1"]


@pytest.mark.parametrize(
    ("more", "artefact", "said"),
    [
        (["--weights", "random"], "./model/model.onnx", "--weights pretrained, not random"),
        (["-s", "128"], "./model/model.onnx", "--image-size 224, not 128"),
        (["--opset", "14"], "./model/model.onnx", "--opset 13, not 14"),
        (["--extra=-multicast-weights"], f"./compiled-bin-fp16-{MOTIF}", '--extra "-aic-enable-depth-first'),
    ],
)
def test_artefacts_made_with_other_parameters_are_refused(
    home: Path, sdk: emulated_sdk.Sdk, call: Call, more: list[str], artefact: str, said: str
) -> None:
    before = sorted(home.rglob("*"))
    ended = call(*ARGV, "-r", *more)
    assert (ended.code, ended.last.startswith("run_cv_classifier: bad input: ")) == (2, True)
    assert f"{artefact}: was made with {said}" in ended.err
    assert len(sdk.calls("qaic-runner")) == 1
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    "missing",
    ["model/model.onnx", "model", f"compiled-bin-fp16-{MOTIF}/programqpc.bin", f"compiled-bin-fp16-{MOTIF}"],
)
def test_a_missing_path_is_named(home: Path, call: Call, missing: str) -> None:
    path = home / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    ended = call(*ARGV, "-r")
    assert ended.code == 2
    named = (
        "./model/model.onnx" if missing.startswith("model") else f"./compiled-bin-fp16-{MOTIF}/programqpc.bin"
    )
    assert f"bad input: {named}: is missing or empty in {home}" in ended.last
    if missing == "model":
        (home / f"compiled-bin-fp16-{MOTIF}/programqpc.bin").write_bytes(b"")
        ended = call(*ARGV, "-r", "--mos=3")
        assert ended.err.count("is missing or empty") == 2
        assert "mos 3 is more than 2 cores" in ended.err


def test_nothing_at_all_is_there(start: Path, sdk: emulated_sdk.Sdk, call: Call) -> None:
    ended = call(*ARGV, "-r")
    assert ended.code == 2
    assert ended.err.count("is missing or empty in") == 2
    assert not (start / "alexnet").exists()


def test_a_binary_whose_graph_was_exported_anew_is_refused(home: Path, call: Call) -> None:
    # Another motif at another size replaces the graph.
    assert call(*ARGV, "-b", "2", "-s", "96").code == 0
    assert "--image-size 96, not 224" in call(*ARGV, "-r").err
    (home / "model" / "export.json").unlink()
    ended = call(*ARGV, "-r")
    assert ended.code == 2
    assert "was compiled from another ./model/model.onnx" in ended.last


def test_a_directory_without_records_is_run_with_a_warning(home: Path, call: Call) -> None:
    """The vendor's script keeps none."""
    (home / "model" / "export.json").unlink()
    (home / f"parameters-{MOTIF}.json").unlink()
    ended = call(*ARGV, "-r")
    assert ended.code == 0
    assert f"warning: ./compiled-bin-fp16-{MOTIF} is not what parameters-{MOTIF}.json describes" in ended.err
    assert "largest absolute difference" in ended.out
    ended = call(*ARGV, "-r", "-s", "64")
    assert (ended.code, "./model/model.onnx: does not take images of 1x3x64x64" in ended.last) == (2, True)
    (home / "model" / "model.onnx").write_text("no graph")
    assert call(*ARGV, "-r").code == 2


def test_a_damaged_record_counts_as_none(home: Path, call: Call) -> None:
    (home / f"parameters-{MOTIF}.json").write_text("{")
    ended = call(*ARGV, "-r")
    assert (ended.code, "warning" in ended.err) == (0, True)
