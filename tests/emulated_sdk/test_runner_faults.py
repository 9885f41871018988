"""Faults of the emulated runner: each is there to be seen by a caller that looks."""

import math
import signal

import numpy as np
import pytest

from tests.emulated_sdk import Card, Fault
from tests.emulated_sdk.desk import CLASSES, STATISTICS, statistics


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("memory-exhausted", 1, "activateNetwork:#333] Dev 0 activate failed status 300"),
        ("device-busy", 1, "Device Busy"),
        ("timed-out", 1, "Connection timed out"),
        ("card-gone", 1, "Failed to open() device. QID 0"),
        ("unknown-error", 1, "nobody has seen"),
        ("crash", -signal.SIGSEGV, ""),
    ],
)
def test_faults_that_end_the_run(compiled, kind, code, text):
    compiled.sdk.set_faults([Fault("runner", kind, where={"cores": 2, "instances": 3, "qid": 0})])
    done = compiled.run()
    assert (done.returncode, "InferenceCnt" in done.stdout) == (code, False)
    assert text in done.stderr
    assert compiled.fields()["Status"] == ("Error" if kind == "card-gone" else "Ready")


def test_a_lost_card_is_back_when_cards_are_set_anew(compiled):
    compiled.sdk.set_faults([Fault("runner", "card-gone", times=1)])
    assert [compiled.run().returncode for _ in range(2)] == [1, 1]
    compiled.sdk.set_cards([Card()])
    assert compiled.run().returncode == 0


@pytest.mark.parametrize(
    ("kind", "shows"),
    [
        ("no-statistics", lambda desk, text: "Stats" not in text),
        ("garbage-statistics", lambda desk, text: "Stats" in text and not STATISTICS.search(text)),
        ("nan-statistics", lambda desk, text: "Inf/Sec nan\n" in text),
        ("zero-inferences", lambda desk, text: "InferenceCnt 0 " in text and desk.rows() == []),
        ("repeated-statistics", lambda desk, text: len(STATISTICS.findall(text)) == 2),
        ("no-latency", lambda desk, text: len(desk.latency_files()) == 2),
        ("extra-latency", lambda desk, text: len(desk.latency_files()) == 4),
        ("row-limit", lambda desk, text: len(desk.rows()) == 100 < statistics(text)[0] / 3),
        ("no-output", lambda desk, text: not list((desk.folder / "out").glob("*.bin"))),
        ("short-output", lambda desk, text: len(desk.output()) == 4 * CLASSES // 2),
        ("nan-output", lambda desk, text: np.isnan(desk.output()).all()),
        ("wrong-output", lambda desk, text: np.abs(desk.output() - desk.fp32()).max() > 1),
    ],
)  # fmt: skip
def test_faults_of_a_run_that_ends_well(compiled, kind, shows):
    compiled.sdk.set_faults([Fault("runner", kind)])
    done = compiled.run()
    assert done.returncode == 0, done.stderr
    assert shows(compiled, done.stdout)


def test_a_wrong_rate_does_not_follow_from_its_line(compiled):
    compiled.sdk.set_faults([Fault("runner", "wrong-rate")])
    count, duration_us, batch, rate = statistics(compiled.run().stdout)
    assert not math.isclose(rate, count * 1e6 / duration_us * batch, rel_tol=0.1)


def test_wrong_latencies_break_the_law(compiled):
    compiled.sdk.set_faults([Fault("runner", "wrong-latency")])
    rate = statistics(compiled.run().stdout)[3]
    total_us = np.mean([float(row["totalRoundtripTimeUs"]) for row in compiled.rows()])
    assert total_us / (3 * 2 * 4 / rate * 1e6) == pytest.approx(3, rel=0.02)


def test_a_truncated_file_breaks_off_within_a_row(compiled):
    compiled.sdk.set_faults([Fault("runner", "truncated-latency")])
    compiled.run()
    lines = (compiled.folder / "out" / "aic-profiling-program-3-latency.txt").read_text().splitlines()
    assert len(lines[-1]) < len(lines[-2])
    assert len(compiled.rows("aic-profiling-program-1-latency.txt")) > len(lines) - 5
