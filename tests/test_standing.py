"""How a stored sweep stands, whatever of it was merged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runner import engine, standing
from runner.backends import fake
from runner.errors import StoreError
from runner.store import Store
from runner.stored import keep_plan, newest_plan
from tests.samples import place, sweep

GRID = {"cores": [1, 2], "instances": [1, 2]}


def remove(store: Store, part: str) -> None:
    for entry in store.list():
        if part in entry.key:
            store.delete([entry.key])


def test_what_failed_and_was_repeated_is_counted_and_the_table_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [{"stage": "run", "where": {"cores": 2}, "reason": "garbage"}]
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"faults": faults, "sleep_s": 0.01}))
    at = place(tmp_path, sweep(grid=GRID, limits={"rounds": 2}))
    outcome = engine.run(at)
    found = standing.of(at.root, at.prefix)
    assert (found.name, found.run, found.round) == ("sample", "1", 2)
    assert {status: count for status, count in found.counts.items() if count} == {"ok": 4, "failed": 4}
    assert (found.table, found.unmerged, found.damaged) == (outcome.table_folder, 0, {})
    assert found.device_s == outcome.device_s
    assert 0 < found.share < 1
    words = standing.as_text(found)
    assert "4 ok, 4 failed" in words
    assert outcome.table_folder in words


def test_what_waits_to_be_measured_again_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.run(place(tmp_path, sweep(grid=GRID)))
    hot = {"stage": "run", "where": {"cores": 2}, "verdict": "infrastructure", "reason": "device-hot"}
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"faults": [hot]}))
    at = place(tmp_path, sweep(grid=GRID, again=[{"id": "a", "where": "cores == 2"}]))
    engine.run(at)
    found = standing.of(at.root, at.prefix)
    assert (found.counts["ok"], found.wanted_again) == (8, 4)
    assert "8 ok; 4 of them to be measured again" in standing.as_text(found)


def test_without_a_table_and_with_segments_that_came_since(tmp_path: Path) -> None:
    at = place(tmp_path, sweep(grid=GRID))
    engine.run(at)
    remove(at.home, "current.json")
    found = standing.of(at.root, at.prefix)
    assert (found.table, found.unmerged) == ("", found.segments)
    assert found.counts["ok"] == 8
    engine.merge_(at.home, engine.stored_plan(at.home, found.plan))
    segment = next(entry.key for entry in at.home.list("results"))
    at.home.put(segment.replace(".csv", "9.csv"), at.home.get(segment)[:-4])
    found = standing.of(at.root, at.prefix)
    assert (found.unmerged, len(found.damaged)) == (1, 1)
    assert "1 not in the table" in standing.as_text(found)
    remove(at.home, "plans/")
    with pytest.raises(StoreError, match="holds no plan"):
        standing.of(at.root, at.prefix)


def test_a_sweep_that_was_edited_and_edited_back_stands_by_its_first_plan(tmp_path: Path) -> None:
    """The third plan is one that was there before."""
    for grid in (GRID, GRID, {"cores": [1], "instances": [1]}, GRID):
        at = place(tmp_path, sweep(grid=grid))
        outcome = engine.run(at)
    found = standing.of(at.root, at.prefix)
    assert len(at.home.list("plans")) == 3
    assert (found.plan, found.counts["ok"]) == (outcome.plan.digest, 8)


def test_of_plans_of_one_date_the_latest_round_counts(tmp_path: Path) -> None:
    """S3 dates to the second."""
    at = place(tmp_path, sweep(grid=GRID))
    for number in (1, 3, 2):
        keep_plan(at.home, engine.plan_round(at, number, {}))
    for entry in at.home.list("plans"):
        path = at.home.local_path(entry.key)
        assert path is not None
        os.utime(path, (1e9, 1e9))
    assert newest_plan(at.home).round == 3


def test_device_time_in_words() -> None:
    used = {"measuring": 90.0, "overhead": 6.0, "failed": 4.0, "repeated": 0.0}
    words = standing.device_time(used, {"waiting": 0.0, "loading": 5.0, "warm-up": 1.0})
    assert words == "1 min 40 s of device time, 90 % of it measuring; loading 5 %, warm-up 1 %, failed 4 %"
    assert standing.device_time(dict.fromkeys(used, 0.0), {}) == "no device time used"
