"""With real exports, as a user has them; random weights, since nothing is downloaded here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from runner.classify import cli
from tests import emulated_sdk

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("argv", "opset"),
    [
        ("-m squeezenet1_1 -o best-latency --weights random --opset 14", 14),
        # The default opset has no operator for attention.
        ("-m vit_b_16 -o balanced --weights random", 13),
        ("-m resnet-50 -o best-latency --weights random", 13),
    ],
)
def test_a_real_model(
    argv: str, opset: int, start: Path, sdk: emulated_sdk.Sdk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(argv.split()) == 0
    out = capsys.readouterr().out
    assert re.search(r"^InferenceCnt .*\n(.*\n)*Latency \(95pct\) = [\d.]+ ms$", out, re.M)
    graph = onnx.load(str(start / argv.split()[1] / "model" / "model.onnx"), load_external_data=False)
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [opset]
    (pixels,), (output,) = graph.graph.input, graph.graph.output
    assert (pixels.name, output.name) == ("input", "output")
    for value in (pixels, output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch_size"


def test_an_export_can_be_repeated_under_another_motif(
    start: Path, sdk: emulated_sdk.Sdk, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same graph, byte for byte: what was compiled from the first can still be run only."""
    argv = ["-m", "shufflenet_v2_x0_5", "-o", "best-latency", "--weights", "random", "--time", "1"]
    assert cli.run(argv) == 0
    assert cli.run([*argv, "-b", "2"]) == 0
    assert cli.run([*argv, "-r"]) == 0
    assert cli.run([*argv[:-4], "--time", "1", "-r"]) == 2
    err = capsys.readouterr().err
    assert "add --weights=random, or run once without --run-only" in err


def test_pretrained_weights_that_can_not_be_had_are_never_replaced(
    start: Path, tmp_path: Path, sdk: emulated_sdk.Sdk
) -> None:
    # Caches that are empty, and no way out.
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path / "torch")}
    ended = subprocess.run(
        [sys.executable, "-m", "runner.classify.cli", "-m", "mobilenet_v2"],
        cwd=start, env={**os.environ, **nowhere, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    *_, remedy, last = ended.stderr.splitlines()
    assert last.startswith(
        "run_cv_classifier: bad input: --weights: pretrained weights of mobilenet_v2 can't be had"
    )
    assert remedy.startswith("--weights random needs no download")
    assert sdk.calls("qaic-compile") == []
