"""`aicsweep run` that is interrupted or killed while the store is away: what was measured is on this host's disk."""

from __future__ import annotations

import re
import signal

from runner.result import SEGMENT_SUFFIX, decode_segment
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
    assert "the next run that finds them there uploads them" in said
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


def test_interrupted_while_the_spool_is_full(run: Run) -> None:
    """Twice, the second time while it still tries: measuring waits for room then, and all that was measured is on
    disk by then."""
    run.environment["AICSWEEP_SPOOL_MIB"] = "0.0001"
    run.proxy.script = Outage(of_results, 10_000)
    program = run.start()
    program.wait_for("is full")
    program.signal(signal.SIGINT)
    program.wait_for("s more")
    program.signal(signal.SIGINT)
    said = run.end(program, code=130)
    measured = max(int(number) for number in re.findall(rf"measure (\d+)/{SLOTS}", said))
    kept = [
        decode_segment(path.read_bytes()).rows for path in run.spooled if path.name.endswith(SEGMENT_SUFFIX)
    ]
    assert 0 < sum(kept) == measured < SLOTS
    run.proxy.script = lambda asked: None
    run.go()
    run.is_right()
