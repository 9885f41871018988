"""Names in a model's directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import lut
from runner.classify import parameters
from runner.classify.given import parse as parse_words
from runner.classify.layout import layout, motif


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-mresnet50"], "B13-C7-A2-OLS2-MOS1-best-throughput"),
        (["-mresnet50", "--mos="], "B13-C7-A2-OLS2-best-throughput"),
        (["-mresnet-50", "-obest-latency"], "B1-C14-A1-OLS1-MOS1,7-best-latency"),
        (["-mresnet-50", "--mos", " 2, 3 "], "B14-C14-A1-OLS1-MOS2,3-best-throughput"),
        (["-mvit_b_16", "-obalanced"], "B1-C2-A7-OLS1-balanced"),
    ],
)
def test_the_motif(argv: list[str], expected: str) -> None:
    given = parse_words(argv)
    row = lut.shipped().get((given.model_name, parameters.objective_of(given)))
    assert motif(parameters.resolve(given, row)) == expected


def test_paths_are_relative_to_the_models_directory() -> None:
    chosen = parameters.resolve(parse_words(["-malexnet", "-b3", "-s64"]), None)
    at = layout(chosen, Path("/start"), "fp16")
    name = "B3-C2-A7-OLS1-best-throughput"
    assert (at.graph, at.inputs) == ("./model/model.onnx", "./inputFiles")
    assert (at.binary, at.outputs) == (f"./compiled-bin-fp16-{name}", f"./outputFiles/fp16-{name}")
    assert at.listing == Path("/start/alexnet/list_3x3x64x64.txt")
    assert at.commands == Path(f"/start/alexnet/commands-{name}.txt")
    assert at.path(at.graph) == Path("/start/alexnet/model/model.onnx")
