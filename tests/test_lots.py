"""What was measured is in a safe place whatever measuring waits for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from runner import engine
from runner.lots import MEASURE
from runner.spool import Spool
from runner.store import open_store
from tests.samples import Silent, place, sweep


class Counting(Silent):
    measured = 0

    def step(self, stage: str, label: str, outcome: str = "", done_s: float = 0.0) -> None:
        self.measured += stage == MEASURE


def test_what_was_measured_is_handed_over_before_one_waits_for_room(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool may be full of what other devices measured; here it always is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, reporter = open_store(f"s3://{s3_bucket}/runs"), Counting()
    at = dataclasses.replace(place(tmp_path, sweep(grid={"cores": [1, 2, 3]})), root=root, reporter=reporter)
    handed_over: list[int] = []
    measured: list[int] = []

    def wait(spool: Spool) -> None:
        spool.settle()
        handed_over.append(engine.read_results(at.home).table.num_rows)
        measured.append(reporter.measured)

    monkeypatch.setattr(Spool, "is_full", True)
    monkeypatch.setattr(Spool, "wait_for_room", wait)
    outcome = engine.run(at)
    assert measured == list(range(outcome.measured))
    assert len(measured) > 3
    assert handed_over == measured
