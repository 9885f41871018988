"""One invocation of the runner as it serves sweeps and the vendor-compatible command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runner.backends.qaic import compare, inputs, run, sdk
from runner.backends.qaic.run import Statistics
from runner.backends.qaic.verdicts import Missing
from runner.errors import BadInput, Infrastructure, PointFailed
from tests.backends.qaic.conftest import Program
from tests.backends.qaic.networks import REPORT, SIZE, cell
from tests.emulated_sdk import Sdk

# Lines printed by SDK 1.19 and older ones.
SEEN = [
    ("InferenceCnt 21961 TotalDuration 20063118us BatchSize 4 Inf/Sec 4378.382", 4),
    ("InferenceCnt 31905 TotalDuration 20042730us BatchSize 4 Inf/Sec 6367.396", 4),
    ("InferenceCnt 6794 TotalDuration 10001122us BatchSize 1 Inf/Sec 679.324", 1),
    ("InferenceCnt 6517 TotalDuration 20215390us BatchSize 8 Inf/Sec 2579.025", 8),
    ("InferenceCnt 1 TotalDuration 17224us BatchSize 1 Inf/Sec 58.059", 1),
]


@pytest.mark.parametrize(("line", "batch"), SEEN)
def test_real_lines_agree_with_the_formula(line: str, batch: int) -> None:
    found = run.statistics_of(f" ---- Stats ----\n{line}\nDevice Performance: \n", batch)
    assert isinstance(found, Statistics)
    assert found.throughput_images_s == pytest.approx(float(line.split()[-1]), abs=0.001)
    assert found.line == line


def test_the_last_of_several_lines_counts() -> None:
    found = run.statistics_of(f"{SEEN[0][0]}\n{SEEN[1][0]}\n", 4)
    assert isinstance(found, Statistics)
    assert found.inferences == 31905


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no-statistics"),
        ("InferenceCnt many TotalDuration 1us BatchSize 1 Inf/Sec 1", "no-statistics"),
        ("InferenceCnt 10 TotalDuration 1000000us BatchSize 2 Inf/Sec nan", "no-statistics"),
        ("InferenceCnt 10 TotalDuration 1000000us BatchSize 2 Inf/Sec 1.2.3", "no-statistics"),
        ("InferenceCnt 10 TotalDuration 1000000us BatchSize 2 Inf/Sec 10.000", "no-statistics"),
        ("InferenceCnt 10 TotalDuration 1000000us BatchSize 1 Inf/Sec 10.000", "wrong-batch"),
        ("InferenceCnt 0 TotalDuration 1000000us BatchSize 2 Inf/Sec 0.000", "zero-inferences"),
        ("InferenceCnt 10 TotalDuration 0us BatchSize 2 Inf/Sec inf", "no-statistics"),
    ],
)
def test_what_is_no_statistics_line(text: str, reason: str) -> None:
    found = run.statistics_of(text, 2)
    assert isinstance(found, Missing)
    assert found.reason == reason


def test_a_run_below_a_models_folder_by_relative_paths(
    tmp_path: Path, emulated: Sdk, program: Program
) -> None:
    point = cell(instances=3)
    home = tmp_path / "small"
    fed = inputs.write(home / "inputFiles", "input", (2, 3, SIZE, SIZE), 1)
    (home / "compiled-bin-fp16-X").symlink_to(program(point))
    stale = home / "outputFiles" / "fp16-X" / "aic-profiling-program-9-latency.txt"
    stale.parent.mkdir(parents=True)
    stale.write_text("an earlier run's")
    passed_through: list[bytes] = []
    done = run.invoke(
        sdk.find(emulated.root).runner(),
        point,
        binary_dir="./compiled-bin-fp16-X",
        out_dir="./outputFiles/fp16-X",
        qid="0",
        inputs=fed.for_runner(json=True, prefix="./inputFiles"),
        cwd=home,
        log=home / "run.log",
        echo=lambda descriptor, chunk: passed_through.append(chunk) if descriptor == 1 else None,
    )
    assert not stale.exists()
    assert len(done.latencies.rows) == 3
    assert done.window.throughput_images_s > 0
    assert f"Inf/Sec {done.statistics.throughput_images_s:.3f}".encode() in b"".join(passed_through)
    actual = compare.read_output(home / "outputFiles" / "fp16-X", REPORT, 2)
    assert np.isfinite(actual).all()


def invoke(emulated: Sdk, folder: Path, binary: Path, out: str = "out") -> run.Invocation:
    fed = inputs.write(folder / "in", "input", (2, 3, SIZE, SIZE), 1)
    return run.invoke(
        sdk.find(emulated.root).runner(), cell(), binary_dir=str(binary), out_dir=out, qid="0",
        inputs=fed.for_runner(json=True, prefix=str(folder / "in")), cwd=folder, log=folder / "log",
    )  # fmt: skip


def test_a_program_that_is_missing_is_named(emulated: Sdk, tmp_path: Path) -> None:
    with pytest.raises(PointFailed, match=r"ended with exit code 1: .*Program creation failed"):
        invoke(emulated, tmp_path, tmp_path / "nowhere")


def test_an_option_the_runner_does_not_know_stops_loudly(
    emulated: Sdk, tmp_path: Path, program: Program
) -> None:
    emulated.runner.write_text("#!/bin/sh\necho 'Invalid option --time. Use -h.'\nexit 255\n")
    with pytest.raises(BadInput, match="does not know --time"):
        invoke(emulated, tmp_path, program(cell()))


def test_a_folder_that_cant_be_made_is_the_hosts_fault(
    emulated: Sdk, tmp_path: Path, program: Program
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Infrastructure, match="can't be written") as caught:
        invoke(emulated, tmp_path, program(cell()), out="file/out")
    assert caught.value.reason == "disk"
