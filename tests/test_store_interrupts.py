"""`aicsweep run` that is interrupted or killed while the store is away: what was measured is on this host's disk."""

from __future__ import annotations

import signal

from tests.s3_runs import SLOTS, Outage, Run, of_results


def test_interrupted_while_the_store_is_away(run: Run) -> None:
    """Twice, the second time while it still tries. What was measured lies on this host and is uploaded by the next
    run: it is not measured again."""
    run.fake = {"sleep_s": 0.2}
    run.proxy.script = Outage(of_results, 10_000)
    program = run.start()
    program.wait_for(f"measure 5/{SLOTS}")
    program.signal(signal.SIGINT)
    program.wait_for("s more")
    program.signal(signal.SIGINT)
    said = run.end(program, code=130)
    assert "the next run on this host uploads them" in said
    assert [path for path in run.spooled if path.is_file()]
    run.proxy.script = lambda asked: None
    assert "that an earlier run left" in run.go()
    run.is_right()


def test_killed_while_the_store_is_away(run: Run) -> None:
    run.fake = {"sleep_s": 0.2}
    run.proxy.script = Outage(of_results, 10_000)
    program = run.start()
    program.wait_for(f"measure 5/{SLOTS}")
    program.signal(signal.SIGKILL)
    run.end(program, code=-9)
    left = [path for path in run.spooled if path.is_file()]
    assert left
    run.proxy.script = lambda asked: None
    said = run.go()
    assert f"{len(left)} file" in said
    run.is_right()
