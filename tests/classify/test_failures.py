"""Whatever fails: the exit code, the last line, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.backends.qaic import locks
from runner.classify import card
from runner.errors import BadInput, Problem
from tests import emulated_sdk
from tests.classify.conftest import Call, Install, SmallExporter
from tests.emulated_sdk import Card, Fault

ARGV = ["-m", "alexnet", "-c", "2", "-i", "2", "-b", "1"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("fault", "code", "last"),
    [
        (
            "unsupported-operator",
            1,
            "compile infeasible, unsupported-operator: the compiler refuses the graph",
        ),
        ("invalid-option", 2, "bad input: qaic-compile of this SDK does not know"),
        ("killed", 1, "compile failed, killed: qaic-compile was killed"),
        ("no-binary", 1, "compile failed, no-binary: the compiler ended well but programqpc.bin is missing"),
    ],
)
def test_a_compiler_that_fails(
    start: Path, sdk: emulated_sdk.Sdk, call: Call, fault: str, code: int, last: str
) -> None:
    # What an earlier call left must not be taken for this one's.
    assert call(*ARGV).code == 0
    sdk.set_faults([Fault("compile", fault)])
    ended = call(*ARGV)
    assert ended.code == code
    assert ended.last.startswith(f"run_cv_classifier: {last}")
    assert "Compile started" in ended.out
    assert len(sdk.calls("qaic-runner")) == 1
    left = {path.name for path in (start / "alexnet").iterdir()}
    assert not any(name.startswith(("compiled-bin", "parameters")) for name in left)
    # How to reproduce it by hand is there.
    (commands,) = start.glob("alexnet/commands-*.txt")
    assert str(sdk.compiler) in commands.read_text()


@pytest.mark.parametrize(
    ("fault", "code", "last"),
    [
        ("memory-exhausted", 1, "run infeasible, device-memory: "),
        ("unknown-error", 1, "run failed, tool-error: qaic-runner ended with exit code 1"),
        ("crash", 1, "run failed, crashed: qaic-runner was ended by SIGSEGV"),
        ("no-statistics", 1, "run failed, no-statistics: "),
        ("zero-inferences", 1, "run failed, zero-inferences: "),
        ("truncated-latency", 1, "run failed, latency-files: "),
        ("extra-latency", 1, "run failed, latency-files: 3 latency files for 2 instances"),
        ("card-gone", 3, "device-"),
    ],
)
def test_a_runner_that_fails(sdk: emulated_sdk.Sdk, call: Call, fault: str, code: int, last: str) -> None:
    sdk.set_faults([Fault("runner", fault)])
    ended = call(*ARGV)
    assert (ended.code, "Latency (95pct)" in ended.out) == (code, False)
    assert ended.last.startswith(f"run_cv_classifier: {last}")


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        ("wrong-output", "run failed, wrong-output: the card's output differs from ONNX Runtime fp32"),
        ("no-output", "run failed, wrong-output: the runner wrote 0 outputs"),
        ("wrong-latency", "run failed, littles-law: "),
    ],
)
def test_a_result_that_is_not_right_is_printed_and_fails(
    sdk: emulated_sdk.Sdk, call: Call, fault: str, last: str
) -> None:
    sdk.set_faults([Fault("runner", fault)])
    ended = call(*ARGV)
    assert (ended.code, "Inf/Sec" in ended.out, "Latency (95pct)" in ended.out) == (1, True, True)
    assert ended.last.startswith(f"run_cv_classifier: {last}")


@pytest.mark.parametrize(
    ("state", "last"),
    [
        (Card(status="Error"), "device-error: card 0 is not Ready: its status is Error"),
        (Card(busy_nsps=3), "device-busy: card 0 has 3 of 14 NSPs in use by somebody else"),
        (Card(status="Initializing"), "device-error: card 0 is Initializing"),
        (Card(temperature_c=80.0), "device-hot: card 0 has 80 degrees C, the limit is 65"),
    ],
)
def test_a_card_that_can_not_be_used(
    start: Path, sdk: emulated_sdk.Sdk, call: Call, exporter: SmallExporter, state: Card, last: str
) -> None:
    sdk.set_cards([state])
    ended = call(*ARGV)
    assert ended.code == 3
    assert ended.last.startswith(f"run_cv_classifier: {last}")
    assert sdk.calls("qaic-runner") == []
    # A hot card may cool down while compiling; the others stop it before any work.
    hot = state.temperature_c == 80.0
    assert (bool(exporter.requests), (start / "alexnet").exists()) == (hot, hot)


def test_a_hot_card_is_waited_for_and_a_stranger_on_it_is_said(sdk: emulated_sdk.Sdk, call: Call) -> None:
    # At the start, twice at the gate, then after the run.
    sdk.set_cards([Card(temperature_c=[80.0, 70.0, 60.0, 60.0], busy_nsps=[0, 0, 0, 5])])
    ended = call(*ARGV)
    assert ended.code == 0
    assert ended.err.count("waiting: card 0 has 70 degrees C, the limit is 65") == 1
    assert "warning: contended, card 0 has 5 of 14 NSPs in use" in ended.err


def test_a_card_that_a_sweep_measures_on_is_left_alone(
    sdk: emulated_sdk.Sdk, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "LOCK_S", 0.1)
    for name in ("card-EMUL-0000", locks.HOST):
        with locks.held(name, "it", limit_s=1):
            ended = call(*ARGV)
        assert (ended.code, ended.last.startswith("run_cv_classifier: device-locked: card 0 is in use")) == (
            3,
            True,
        )
        assert "--device\n" in ended.err
    assert sdk.calls("qaic-runner") == []


def test_cards_are_counted_before_any_work(
    start: Path, sdk: emulated_sdk.Sdk, call: Call, exporter: SmallExporter
) -> None:
    sdk.set_cards([Card(), Card(sku="M.2")])
    ended = call("-m", "resnet50", "-d", "1", "--mos=9")
    assert ended.code == 2
    assert "7 cores x 2 instances need 14, there are 8 (NSPs of card 1)" in ended.err
    assert "mos 9 is more than 7 cores" in ended.err
    assert ended.last == "run_cv_classifier: bad input: 2 problems, named above"
    ended = call("-m", "vit_b_16", "-d", "2", "-s", "225")
    assert ended.code == 2
    assert "--device: no card 2 here\n    there are 0, 1" in ended.err
    assert "--image-size: vit_b_16 accepts 224 pixels only" in ended.err
    assert exporter.requests == []
    assert list(start.iterdir()) == []


def test_an_sdk_that_was_named_is_never_replaced(
    start: Path, install: Install, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = install()
    ended = call(*ARGV, "--sdk", "nowhere")
    assert (ended.code, ended.last.startswith("run_cv_classifier: sdk: no SDK in nowhere")) == (3, True)
    sdk.compiler.unlink()
    ended = call(*ARGV)
    assert ended.code == 3
    assert "has no qaic-compile or qaic-exec" in ended.last
    sdk.runner.chmod(0o644)
    assert "qaic-runner is not executable" in call(*ARGV).last
    monkeypatch.delenv("AICSWEEP_SDK")
    ended = call(*ARGV, "--backend", "qaic")
    assert (ended.code, "no Cloud AI SDK here" in ended.last) == (3, True)
    assert list(start.iterdir()) == []


def test_a_host_without_a_compiler_still_runs_only(install: Install, call: Call) -> None:
    sdk = install()
    assert call(*ARGV).code == 0
    sdk.compiler.unlink()
    assert call(*ARGV, "-r").code == 0


def test_a_query_that_fails(sdk: emulated_sdk.Sdk, call: Call) -> None:
    sdk.set_faults([Fault("util", "fail")])
    ended = call(*ARGV)
    assert (ended.code, "no-device: qaic-util found no card" in ended.last) == (3, True)


def test_weights_that_can_not_be_had_name_the_other_kind(
    start: Path, sdk: emulated_sdk.Sdk, call: Call, exporter: SmallExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(
        "spec.weights", "pretrained weights of alexnet can't be had", "spec.weights: random needs none"
    )

    def refuse(*_: object) -> None:
        raise BadInput([problem])

    monkeypatch.setattr(exporter, "export", refuse)
    ended = call(*ARGV)
    assert ended.code == 2
    assert ended.err.endswith(
        "--weights random needs none\n"
        "run_cv_classifier: bad input: --weights: pretrained weights of alexnet can't be had\n"
    )
    assert not any((start / "alexnet" / "model").glob("*"))
    assert not (start / "alexnet" / ".export").exists()


def test_a_directory_that_can_not_be_written(start: Path, sdk: emulated_sdk.Sdk, call: Call) -> None:
    (start / "alexnet").write_text("a file")
    ended = call(*ARGV)
    assert (ended.code, ended.last.startswith("run_cv_classifier: disk: ")) == (3, True)


def test_a_runner_that_hangs_ends_at_the_limit_with_its_children(sdk: emulated_sdk.Sdk, call: Call) -> None:
    sdk.set_faults([Fault("runner", "stubborn-hang", times=1)])
    ended = call(*ARGV, "--time", "1", "--timeout", "3")
    assert ended.code == 1
    assert ended.last == "run_cv_classifier: run failed, time-limit: qaic-runner had not ended after 4 s"
    assert sdk.alive() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_leaves_no_tool_behind(
    start: Path, sdk: emulated_sdk.Sdk, call: Call, number: signal.Signals
) -> None:
    assert call(*ARGV).code == 0
    sdk.set_faults([Fault("runner", "hang")])
    child = subprocess.Popen(
        [sys.executable, "-m", "runner.classify.cli", *ARGV, "-r"],
        cwd=start, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    while len(sdk.calls("qaic-runner")) < 2 and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(number)
    _, err = child.communicate()
    assert child.returncode == 130
    assert err.endswith("run_cv_classifier: interrupted\n")
    assert sdk.alive() == []


def test_a_reader_that_leaves_ends_the_call_quietly(start: Path, sdk: emulated_sdk.Sdk, call: Call) -> None:
    assert call(*ARGV).code == 0
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "runner.classify.cli", *ARGV, "-r"],
        cwd=start, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=write, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    os.close(write)
    assert (ended.returncode, "Traceback" in ended.stderr) == (130, False)
    assert sdk.alive() == []
