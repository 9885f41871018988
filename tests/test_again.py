"""Measuring again what was asked for, on one machine: what is chosen, what runs, and what the table shows."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner import again, artifacts, condition, engine, inflight, merge
from runner.backends import fake
from runner.errors import BadInput, StoreError
from runner.spec import Again, Sweep
from runner.store import Store
from runner.verify import verify
from tests.samples import Silent, place, sweep

GRID = {"cores": [1, 2, 7], "instances": [1, 2]}
GARBAGE = {"stage": "run", "where": {"cores": 7}, "reason": "garbage"}
REFUSED = {"stage": "compile", "where": {"cores": 2}, "verdict": "infeasible", "reason": "no-memory"}
HOT = {"stage": "run", "where": {"cores": 7}, "verdict": "infrastructure", "reason": "device-hot"}
FAILED = condition.of_status("failed")


def small(*requests: tuple[str, str], **spec: Any) -> Sweep:
    """Six slots of one model; `requests` are ids and conditions."""
    asked = [{"id": id_, "where": where} for id_, where in requests]
    return sweep(**{"models": ["resnet50"], "grid": GRID, "again": asked, **spec})


def run(folder: Path, *requests: tuple[str, str], **spec: Any) -> engine.Outcome:
    return engine.run(place(folder, small(*requests, **spec)))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    def inject(*listed: dict[str, Any], **more: Any) -> None:
        monkeypatch.setenv(fake.SETTINGS, json.dumps({"faults": listed, **more}))

    return inject


def home(folder: Path) -> Store:
    return place(folder, small()).home


def tried(folder: Path) -> Counter[tuple[int, int, str]]:
    """Results in the store by cores, epoch and status."""
    at = home(folder)
    cores = {task.slot: task.cell.cores for task in engine.plan_round(place(folder, small()), 1, {}).tasks()}
    rows = engine.read_results(at).table.to_pylist()
    return Counter((cores[row["slot"]], row["epoch"], row["status"]) for row in rows)


def shown(outcome: engine.Outcome, *names: str) -> set[tuple[Any, ...]]:
    return {tuple(row[name] for name in names) for row in outcome.table.to_pylist()}


def proven(folder: Path) -> bool:
    at = place(folder, small())
    return verify(at.root, at.prefix, Silent()).proven


def test_only_what_failed_is_tried_again_as_often_as_there_are_rounds(tmp_path, faults):
    faults(GARBAGE)
    run(tmp_path)
    assert tried(tmp_path)[7, 0, "failed"] == 2 * 3
    assert run(tmp_path).measured == 0
    first = run(tmp_path, ("a", FAILED))
    assert first.measured == 2 * 3
    assert tried(tmp_path)[7, 1, "failed"] == 2 * 3
    faults()
    second = run(tmp_path, ("a", FAILED), ("b", FAILED))
    assert (second.measured, second.reused) == (2, 4)
    assert shown(second, "cores", "status", "epoch") == {(1, "ok", 0), (2, "ok", 0), (7, "ok", 2)}
    # Nothing was deleted, and nothing else was measured.
    assert tried(tmp_path) == {
        (1, 0, "ok"): 2, (2, 0, "ok"): 2, (7, 0, "failed"): 6, (7, 1, "failed"): 6, (7, 2, "ok"): 2
    }  # fmt: skip
    assert run(tmp_path, ("a", FAILED), ("b", FAILED)).measured == 0


@pytest.mark.parametrize("stage", ["export", "compile", "run"])
def test_what_runs_died_with_is_tried_again_and_after_two_more_deaths_not(tmp_path, stage):
    task = next(t for t in engine.plan_round(place(tmp_path, small()), 1, {}).tasks() if t.cell.cores == 7)
    item = {"export": task.export, "compile": task.binary, "run": task.slot}[stage]

    def died_twice(item: str) -> None:
        for writer in ("w1", "w2"):
            home(tmp_path).put_new(f"inflight/{inflight.HERE}/{item}/{writer}", b"")

    died_twice(item)
    killed = ("failed", stage, "killed")
    assert killed in shown(run(tmp_path), "status", "stage", "reason")
    died_twice(f"{item}.1")
    assert killed in shown(run(tmp_path, ("a", FAILED)), "status", "stage", "reason")
    assert shown(run(tmp_path, ("b", FAILED)), "status") == {("ok",)}


def test_the_compiler_is_asked_again_and_its_success_counts_for_every_sweep(tmp_path, faults, monkeypatch):
    compiled: list[int] = []
    real = fake.compile
    monkeypatch.setattr(
        fake, "compile", lambda cell, *more: (compiled.append(cell.cores), real(cell, *more))[1]
    )
    faults(REFUSED)
    run(tmp_path)
    run(tmp_path, ("a", condition.of_status("infeasible")))
    assert (compiled.count(2), tried(tmp_path)[2, 1, "infeasible"]) == (2, 2)
    faults()
    assert shown(run(tmp_path, run="other"), "cores", "status") == {
        (1, "ok"), (2, "infeasible"), (7, "ok")
    }  # fmt: skip
    retried = run(tmp_path, ("b", condition.of_status("infeasible")))
    assert (retried.measured, compiled.count(2)) == (2, 3)
    assert shown(retried, "status") == {("ok",)}
    assert shown(run(tmp_path, run="third"), "status") == {("ok",)}
    assert compiled.count(2) == 3


def test_a_binary_that_is_asked_for_again_is_so_for_every_slot_that_shares_it(tmp_path, faults):
    """An edit adds a slot with the binary that is tried again; it must not find it infeasible as remembered."""
    faults(REFUSED)
    run(tmp_path)
    faults()
    more = {**GRID, "instances": [1, 2, 3]}
    outcome = run(tmp_path, ("a", condition.of_status("infeasible")), grid=more, limits={"lotMinutes": 1})
    assert shown(outcome, "cores", "status", "epoch") == {
        (1, "ok", 0), (2, "ok", 1), (2, "ok", 0), (7, "ok", 0), (7, "unfit", 0),
    }  # fmt: skip
    assert outcome.measured == 2 + 2


def test_an_old_result_is_shown_until_there_is_a_new_one_and_the_row_says_so(tmp_path, faults):
    before = run(tmp_path)
    faults(HOT)
    waiting = run(tmp_path, ("a", "cores == 7"))
    assert waiting.exit_code == 1
    assert merge.counts(waiting.table)["ok"] == 6
    assert merge.count_wanted_again(waiting.table) == 2
    assert shown(waiting, "cores", "epoch", "warnings") == {(1, 0, ""), (2, 0, ""), (7, 0, "wanted-again")}
    assert shown(waiting, "slot", "throughput_images_s") == shown(before, "slot", "throughput_images_s")
    assert merge.count_wanted(waiting.plan, engine.read_results(home(tmp_path))) == 2
    assert proven(tmp_path)
    # The next run goes on with it, though nobody asks again.
    faults()
    done = run(tmp_path)
    assert (done.measured, done.exit_code) == (2, 0)
    assert shown(done, "cores", "epoch", "warnings") == {(1, 0, ""), (2, 0, ""), (7, 1, "")}
    assert merge.count_wanted(done.plan, engine.read_results(home(tmp_path))) == 0
    assert proven(tmp_path)


def test_a_new_failure_takes_the_place_of_an_old_number(tmp_path, faults):
    run(tmp_path)
    faults(GARBAGE)
    outcome = run(tmp_path, ("a", "ci > 0% and cores == 7"))
    assert shown(outcome, "cores", "status", "epoch") == {(1, "ok", 0), (2, "ok", 0), (7, "failed", 1)}
    assert outcome.exit_code == 1


def test_interrupted_it_goes_on_without_being_asked_again(tmp_path, faults, monkeypatch):
    run(tmp_path)
    at = place(tmp_path, small(("a", "True")))
    done = []

    def stop_at_the_second(stage: str, label: str, outcome: str, estimate_s: float) -> None:
        done.append(stage)
        if done.count("measure") == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(at.reporter, "step", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        engine.run(at)
    assert sum(n for (_, epoch, _), n in tried(tmp_path).items() if epoch == 1) == 2
    assert run(tmp_path).measured == 4
    assert set(tried(tmp_path).values()) == {2}


def test_a_request_chooses_once(tmp_path, faults):
    faults(GARBAGE)
    run(tmp_path, ("a", FAILED))
    faults({**GARBAGE, "where": {"cores": 2}})
    run(tmp_path, ("a", FAILED))
    (request,) = again.read(home(tmp_path))
    assert (request.id, request.epoch, request.where, request.slots) == ("a", 1, FAILED, ())
    faults(GARBAGE, {**GARBAGE, "where": {"cores": 2}})
    run(tmp_path, run="2")
    faults()
    assert run(tmp_path, ("a", FAILED), run="2").measured == 4


def test_what_has_no_verdict_or_does_not_fit_is_not_chosen(tmp_path, faults, monkeypatch):
    faults(HOT)
    at = place(tmp_path, small(("a", "True"), grid={"cores": [1, 7], "instances": [1, 2, 3]}))
    said: list[str] = []
    monkeypatch.setattr(at.reporter, "say", said.append)
    engine.run(at)
    assert "nothing to be measured again where True" in said
    at = place(
        tmp_path, small(("b", "cores == 7 or cores == 1"), grid={"cores": [1, 7], "instances": [1, 2, 3]})
    )
    monkeypatch.setattr(at.reporter, "say", said.append)
    engine.run(at)
    assert "3 slots to be measured again where cores == 7 or cores == 1" in said


def test_an_edit_and_a_request_at_once(tmp_path, faults):
    faults(GARBAGE)
    run(tmp_path)
    faults()
    outcome = run(tmp_path, ("a", "True"), grid={**GRID, "cores": [3, 7]})
    assert shown(outcome, "cores", "epoch") == {(3, 0), (7, 1)}
    # What left the sweep was not chosen.
    back = run(tmp_path)
    assert back.measured == 0
    assert shown(back, "cores", "epoch") == {(1, 0), (2, 0), (7, 1)}


def test_a_disturbed_new_result_is_used_and_wanted_again_within_its_epoch(tmp_path, faults):
    run(tmp_path)
    faults(contended={"cores": 7})
    outcome = run(tmp_path, ("a", "cores == 7"))
    assert outcome.measured == 2 * 3
    assert shown(outcome, "cores", "reason", "epoch") == {(1, "", 0), (2, "", 0), (7, "contended", 1)}


def test_the_epoch_of_a_request_that_was_taken_back_is_not_given_again(tmp_path):
    """Its results are there, and are not those of the next request."""
    run(tmp_path)
    assert run(tmp_path, ("a", "cores == 7")).measured == 2
    home(tmp_path).delete(["again/00001.json"])
    outcome = run(tmp_path, ("b", "cores == 7"))
    assert outcome.measured == 2
    assert [request.epoch for request in again.read(home(tmp_path))] == [2]


@pytest.mark.parametrize("ours_first", [True, False])
def test_two_who_ask_at_once(tmp_path, monkeypatch, ours_first):
    """Another takes the epoch between our look and our write: the same request counts once, another is kept."""
    run(tmp_path)
    at, table = home(tmp_path), run(tmp_path).table
    theirs = Again(id="ours" if ours_first else "theirs", where="cores == 1")
    put_new = Store.put_new

    def other_first(self: Store, key: str, data: bytes) -> bool:
        monkeypatch.setattr(Store, "put_new", put_new)
        again.settle(self, [theirs], lambda: table, 0)
        return put_new(self, key, data)

    monkeypatch.setattr(Store, "put_new", other_first)
    found = again.settle(at, [Again(id="ours", where="cores == 1")], lambda: table, 0).every
    assert [(r.epoch, r.id) for r in found] == ([(1, "ours")] if ours_first else [(1, "theirs"), (2, "ours")])
    assert found == again.read(at)
    assert set(again.epochs(found).values()) == {len(found)}


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([("a", "cores == 2")], r"spec\.again\[0\]\.id: 'a' was used before, for: cores == 1"),
        ([("a", "cores == 1"), ("b", "coars == 1")], r"spec\.again\[1\]\.where: .*\n    did you mean cores"),
        ([("b", "cores > 'x'")], r"spec\.again\[0\]\.where: .* can't be worked out"),
    ],
)
def test_bad_requests_are_refused_with_their_place_and_nothing_runs(tmp_path, requests, words):
    run(tmp_path, ("a", "cores == 1"))
    before = tried(tmp_path)
    with pytest.raises(BadInput, match=words):
        run(tmp_path, *requests, grid={**GRID, "cores": [3]})
    assert tried(tmp_path) == before
    assert len(again.read(home(tmp_path))) == 1


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("again/00001.json", b"{"),
        ("again/00001.json", b'{"epoch": 1}'),
        ("again/00002.json", None),
    ],
)
def test_a_damaged_request_stops_a_run_and_is_named(tmp_path, key, data):
    run(tmp_path, ("a", "cores == 1"))
    at = home(tmp_path)
    at.put(key, at.get("again/00001.json") if data is None else data)
    with pytest.raises(StoreError, match=key):
        run(tmp_path)


def test_what_a_command_line_asks_is_named_after_the_moment():
    """Two within one second are two."""
    moment = datetime(2026, 11, 27, 23, 2, 10, 7, tzinfo=UTC)
    assert again.asked("ci > 2%", moment) == Again(id="2026-11-27T23.02.10.000007Z", where="ci > 2%")
    with pytest.raises(BadInput, match="throughput_images_s"):
        again.asked("thruput_images_s > 1", moment)


def test_memory_of_what_was_refused_is_kept_where_it_is_refused_again(tmp_path, faults):
    faults(REFUSED)
    run(tmp_path)
    run(tmp_path, ("a", "status == 'infeasible'"))
    root = place(tmp_path, small()).root
    keys = {entry.key.split("/")[2] for entry in root.list("artifacts/binary")}
    refused = [key for key in keys if artifacts.find_infeasible(root, "binary", key)]
    assert len(refused) == 1
    assert artifacts.find(root, "binary", refused[0]) is None
