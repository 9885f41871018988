import pytest

from runner import ledger, merge
from runner.segments import parse_segments
from tests.test_merge import ok, segment


def seconds(*results):
    found = parse_segments([("a", segment(*results))])
    return ledger.device_seconds(found, merge.winners(found))


def test_every_second_is_counted_once_by_what_it_gave():
    found = seconds(
        ok("a", device_s=100.0, gate_s=5.0, load_s=10.0, warmup_s=15.0),
        # Measured again: the earlier one counts.
        ok("a", started_at="2026-01-02", device_s=80.0, load_s=8.0),
        ok("b", device_s=50.0),
        ok("c", status="failed", device_s=7.0),
        ok("d", status="missing", device_s=3.0),
        ok("e", status="infeasible", device_s=2.0),
    )
    assert found == pytest.approx({"measuring": 120.0, "overhead": 30.0, "failed": 12.0, "repeated": 80.0})


def test_of_a_contended_result_and_a_better_one_the_better_counts():
    found = seconds(
        ok("a", device_s=10.0, reason="contended"), ok("a", started_at="2026-01-02", device_s=20.0)
    )
    assert found == pytest.approx({"measuring": 20.0, "overhead": 0.0, "failed": 0.0, "repeated": 10.0})


def test_overhead_is_never_more_than_the_time_there_was():
    assert seconds(ok("a", device_s=1.0, load_s=2.0)) == {
        "measuring": 0.0, "overhead": 1.0, "failed": 0.0, "repeated": 0.0,
    }  # fmt: skip


def test_nothing_used():
    assert set(seconds().values()) == {0.0}


def test_what_the_overhead_was():
    results = parse_segments(
        [
            (
                "a",
                segment(
                    ok("a", device_s=100.0, gate_s=5.0, load_s=10.0, warmup_s=15.0), ok("b", status="failed")
                ),
            )
        ]
    )
    assert ledger.overhead_seconds(results, merge.winners(results)) == {
        "waiting": 5.0,
        "loading": 10.0,
        "warm-up": 15.0,
    }
    assert ledger.share({"measuring": 3.0, "failed": 1.0}) == 0.75
    assert ledger.share({"measuring": 0.0}) is None
