"""The failure table: each known text and end, and the verdict on it."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from runner.backends.qaic import verdicts
from runner.errors import AicsweepError, BadInput, Infeasible, Infrastructure, PointFailed
from runner.process import Ended
from tests.backends.qaic.networks import cell

GOOD = Ended(
    argv=("/sdk/exec/qaic-runner",), exit_code=0, signal=None, over_limit=False, seconds=1.0, stdout="",
    stderr="", stdout_tail="", stderr_tail="", log_tail="",
)  # fmt: skip
NOTHING = verdicts.Missing("no-statistics", "no statistics")


def judge(text: str = "", *, free: bool | None = None, missing: bool = False, **end: object) -> AicsweepError:
    ended = replace(GOOD, stderr_tail=text, log_tail=text, **{"exit_code": 1, **end})  # type: ignore[arg-type]
    error = verdicts.judge(
        "run", cell(), ended, limit_s=9.0, device_was_free=free, missing=NOTHING if missing else None
    )
    assert error is not None
    return error


EXHAUSTED = [
    "Device 0 activate failed: Memory resource exhausted",
    "[QAicDevice][activateNetwork:#333] Dev 0 activate failed status 300",
    "Failed to Activate program",
    "QAIC_ERROR_EXECOBJ_RUNTIME",
]


@pytest.mark.parametrize("text", EXHAUSTED)
def test_memory_is_the_points_fault_only_on_a_card_that_was_free(text: str) -> None:
    assert isinstance(judge(text, free=True), Infeasible)
    assert isinstance(judge(text, free=False), Infrastructure)
    unknown = judge(text, free=None)
    assert isinstance(unknown, PointFailed)
    assert not isinstance(unknown, Infeasible)


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        (
            "[error][LogCommon][openDevice:#68] Failed to open device /dev/qaic",
            Infrastructure,
            "device-error",
        ),
        (
            "[QKmdDeviceFactory][getDevice:#117] Failed to open() device. QID 0",
            Infrastructure,
            "device-error",
        ),
        ("Device:3 not in ready state", Infrastructure, "device-error"),
        ("Invalid device:3", Infrastructure, "device-error"),
        ("Device Busy, retry", PointFailed, "device-timeout"),
        ("Connection timed out", PointFailed, "device-timeout"),
        ("QAICException:Unable to AddNodesToGraphFromModel", Infeasible, "unsupported-operator"),
        ("write: No space left on device", Infrastructure, "disk"),
        ("nobody has seen this", PointFailed, "tool-error"),
    ],
)
def test_known_texts(text: str, kind: type[AicsweepError], reason: str) -> None:
    error = judge(f"before\n{text}\nafter")
    assert type(error) is kind
    assert error.reason == reason  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["Invalid option -X. Use -h, -help", "[json.exception.type_error.302] type"])
def test_our_own_mistakes_stop_loudly(text: str) -> None:
    assert isinstance(judge(text), BadInput)


def test_the_limit_comes_before_the_signal_before_the_text_before_the_code() -> None:
    text = EXHAUSTED[0]
    over = judge(text, over_limit=True, exit_code=None, signal=signal.SIGKILL)
    assert over.reason == "time-limit"  # type: ignore[attr-defined]
    assert judge(text, exit_code=None, signal=signal.SIGKILL).reason == "killed"  # type: ignore[attr-defined]
    assert judge(text, exit_code=137).reason == "killed"  # type: ignore[attr-defined]
    crashed = judge(text, exit_code=None, signal=signal.SIGSEGV)
    assert (crashed.reason, "SIGSEGV" in crashed.message) == ("crashed", True)  # type: ignore[attr-defined]
    assert judge(text, missing=True, exit_code=0).reason == "device-memory"  # type: ignore[attr-defined]
    assert judge("", missing=True).reason == "tool-error"  # type: ignore[attr-defined]
    assert judge("", missing=True, exit_code=0).reason == "no-statistics"  # type: ignore[attr-defined]


def test_out_of_host_memory_is_the_points_fault_only_when_compiling() -> None:
    killed = replace(GOOD, exit_code=None, signal=signal.SIGKILL)
    compiling = verdicts.judge("compile", cell(), killed, limit_s=9.0)
    running = verdicts.judge("run", cell(), killed, limit_s=9.0)
    assert isinstance(compiling, PointFailed)
    assert isinstance(running, Infrastructure)
    assert compiling.reason == running.reason == "killed"


def test_a_text_alone_is_no_failure() -> None:
    recovered = replace(GOOD, stderr_tail="Device Busy, retry\n")
    assert verdicts.judge("run", cell(), recovered, limit_s=9.0) is None


def test_a_failure_keeps_the_logs_end() -> None:
    failure = judge("a\nb\nthe cause")
    assert isinstance(failure, PointFailed)
    assert failure.log_tail.endswith("the cause")
    assert failure.message == "qaic-runner ended with exit code 1: the cause"
