"""This machine's CPU in place of a card."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from runner.backends import host_cpu
from runner.backends.qaic import sdk as sdks
from runner.classify import printed
from tests import emulated_sdk
from tests.classify.conftest import Call, SmallExporter

STATISTICS = re.compile(r"InferenceCnt (\d+) TotalDuration (\d+)us BatchSize (\d+) Inf/Sec ([\d.]+)")
CORES = len(host_cpu.usable().cores)


@pytest.fixture
def no_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdks, "DEFAULT_ROOT", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))


def test_where_no_sdk_is_found_the_cpu_is_measured_and_it_is_said(
    start: Path, no_sdk: None, call: Call, exporter: SmallExporter
) -> None:
    ended = call("-m", "alexnet", "-o", "best-latency", "--time", "1", "-i", "1", "-c", "1", "--ols", "4")
    assert ended.code == 0, ended.err
    first = ended.err.splitlines()[0]
    assert "no Cloud AI SDK here" in first
    assert "ONNX Runtime measures this machine's CPU instead" in first
    assert "--ols change nothing on a CPU" in ended.err
    # The runner's line with real numbers, marked on the line before.
    lines = ended.out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if STATISTICS.fullmatch(line))
    assert re.fullmatch(r"Measured by ONNX Runtime \S+ on the CPU in fp32, not on a card:", lines[at - 1])
    found = STATISTICS.fullmatch(lines[at])
    assert found
    count, duration_us, batch, rate = int(found[1]), int(found[2]), int(found[3]), float(found[4])
    assert batch == 1
    assert rate == pytest.approx(count * 1e6 / duration_us * batch, abs=1e-3)
    assert duration_us > 0.9e6
    latency = re.fullmatch(r"Latency \(95pct\) = (\d+\.\d{3}) ms", lines[at + 1])
    assert latency
    assert float(latency[1]) > 0
    assert lines[-1] == "output, largest absolute difference 0" or float(lines[-1].split()[-1]) < 1e-4
    # fp32, and nothing is compiled.
    home = start / "alexnet"
    (output,) = home.glob("outputFiles/fp32-B1-C1-A1-OLS4-MOS*-best-latency/output-activation-0-inf-0.bin")
    assert np.isfinite(np.fromfile(output, "<f4")).all()
    assert not list(home.glob("compiled-bin*")) + list(home.glob("commands*"))


def test_run_only_needs_no_binary(start: Path, call: Call, exporter: SmallExporter) -> None:
    argv = ["-m", "alexnet", "--backend", "onnxruntime", "--time", "1", "-o", "balanced"]
    ended = call(*argv)
    assert (ended.code, "SDK" in ended.err) == (0, False)
    # The default 2 x 7 is a card's.
    if CORES < 14:
        assert "2 cores x 7 instances are a card's" in ended.err
    assert call(*argv, "-r").code == 0
    assert len(exporter.requests) == 1
    assert "was made with --image-size 224, not 99" in call(*argv, "-r", "-s", "99").err


def test_an_option_that_does_not_fit_this_cpu_is_refused(call: Call, exporter: SmallExporter) -> None:
    if CORES >= 14 * 14:
        pytest.skip("everything fits")
    ended = call("-m", "alexnet", "--backend", "onnxruntime", "-c", "14", "-i", "14")
    assert (ended.code, exporter.requests) == (2, [])
    assert f"need 196, there are {CORES}" in ended.err


def test_an_sdk_that_is_there_is_used_unless_told_otherwise(sdk: emulated_sdk.Sdk, call: Call) -> None:
    assert call("-m", "alexnet", "--backend=onnxruntime", "--time=1", "-b=1").code == 0
    assert sdk.calls() == []


@pytest.mark.parametrize(
    ("images_s", "window_s", "batch"), [(64.5, 5.0, 28), (0.3, 10.0, 1), (12345.678, 1.0, 4), (5.0, 0.1, 8)]
)
def test_the_statistics_line_follows_from_the_window(images_s: float, window_s: float, batch: int) -> None:
    found = STATISTICS.fullmatch(printed.statistics_line(images_s, window_s, batch))
    assert found
    count, duration_us = int(found[1]), int(found[2])
    assert float(found[4]) == pytest.approx(images_s, rel=1e-4)
    assert float(found[4]) == pytest.approx(count * 1e6 / duration_us * batch, abs=1e-3)
    # Within half an inference of the window.
    assert count >= 1
    assert count == 1 or abs(duration_us * 1e-6 - window_s) <= 0.51 * batch / images_s
