from __future__ import annotations

import os

import pytest

from runner.backends.host_load import HostLoad, Reading, busy_seconds, others_share

# user nice system idle iowait irq softirq steal guest guest_nice; CPU 1 is offline.
STAT = """cpu  300 0 0 900 0 0 0 0 0 0
cpu0 100 10 20 300 7 1 2 5 0 0
cpu2 50 0 0 400 0 0 0 0 0 0
cpu3 70 0 0 400 0 0 0 0 0 0
intr 12345 0 1
"""


def test_all_but_idling_counts_and_stolen_time_too():
    hertz = os.sysconf("SC_CLK_TCK")
    assert busy_seconds(STAT, {"cpu0"}) == (100 + 10 + 20 + 1 + 2 + 5) / hertz


def test_cpus_are_told_by_number_even_when_one_is_offline():
    hertz = os.sysconf("SC_CLK_TCK")
    assert busy_seconds(STAT, {"cpu2"}) == 50 / hertz
    assert busy_seconds(STAT, {"cpu2", "cpu3"}) == 120 / hertz


def test_what_the_watched_processes_used_is_not_others():
    before, after = Reading(0.0, 100.0, 50.0), Reading(10.0, 120.0, 66.0)
    # 20 s busy, 16 of them ours, on two cores for ten seconds; two ticks a core are noise.
    assert others_share(before, after, cores=2) == pytest.approx((4.0 - 0.04) / 20.0)


def test_ticks_that_arrive_late_are_no_negative_load():
    assert others_share(Reading(0.0, 1.0, 0.0), Reading(1.0, 1.99, 1.0), cores=1) == 0.0


def test_a_process_that_is_gone_does_not_stop_the_reading(tmp_path):
    (tmp_path / "stat").write_text(STAT)
    load = HostLoad({0}, [os.getpid()], proc=tmp_path)
    reading = load.read()
    assert reading.busy_s > 0
    assert reading.own_s > 0
