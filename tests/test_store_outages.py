"""`aicsweep run` while the store is away, in trouble or slow: it waits, for how long, and goes on meanwhile."""

from __future__ import annotations

import pytest

from runner.bucket import retry_after_s
from tests import s3_proxy
from tests.s3_proxy import Asked, Do, answer
from tests.s3_runs import OUTAGE_S, SLOTS, Outage, Run, of_results, some


def test_away_while_measuring(run: Run) -> None:
    """It goes on measuring meanwhile: all that was to be measured is, long before the store is back."""
    run.fake = {"sleep_s": 0.1}
    run.proxy.script = Outage(of_results, OUTAGE_S)
    said = run.go()
    assert "the store answers again" in said
    measured_last = said.rindex(f"measure {SLOTS}/{SLOTS}")
    assert measured_last < said.index("the store answers again")
    run.is_right()


@pytest.mark.parametrize("where", ["plans", "artifacts/binary", "tables", "current.json"])
def test_away_at_any_other_time(run: Run, where: str) -> None:
    run.proxy.script = Outage(lambda asked: asked.writes and where in asked.key, OUTAGE_S)
    assert "the store answers again" in run.go()
    run.is_right()


def test_trouble_at_half_of_the_calls(run: Run) -> None:
    run.proxy.script = lambda asked: answer(503, "SlowDown") if some(asked) else None
    run.go()
    run.is_right()


def test_slow(run: Run) -> None:
    """Measuring does not wait for it."""
    run.proxy.script = lambda asked: s3_proxy.slow(0.3) if asked.writes else None
    run.go()
    run.is_right()


def test_connections_reset_in_the_middle_of_a_body(run: Run) -> None:
    run.proxy.script = lambda asked: s3_proxy.cut_body if some(asked) else None
    run.go()
    run.is_right()


def test_retry_after_is_honoured(run: Run) -> None:
    """After its quick tries nothing asks again before the store said."""
    struck: list[float] = []

    def script(asked: Asked) -> Do | None:
        if of_results(asked) and not struck:
            struck.append(asked.at_s)
        return answer(503, "SlowDown", retry_after_s=4) if struck and asked.at_s < struck[0] + 4 else None

    run.proxy.script = script
    run.go()
    after = [asked for asked in run.proxy.asked if asked.at_s >= struck[0]]
    (probe,) = [asked for asked in after if asked.method == "HEAD"]
    assert not [asked for asked in after if probe.at_s < asked.at_s < probe.at_s + 4]
    run.is_right()


def test_a_store_that_stays_away_is_given_up(run: Run) -> None:
    run.environment["AICSWEEP_STORE_PATIENCE_S"] = "3"
    run.proxy.script = Outage(of_results, 10_000)
    said = run.go(code=3)
    assert "can't be reached" in said
    assert str(run.cache) in said
    run.proxy.script = lambda asked: None
    run.go()
    run.is_right()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3), ("0", 0), ("", 0), ("soon", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90), ("-5", 0)],
)
def test_retry_after_is_read_as_seconds_or_a_date(text: str, seconds: float) -> None:
    assert retry_after_s(text, 10.0) == seconds
