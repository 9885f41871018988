"""The flow end to end with the fake backend; the oracle is an undisturbed run's result columns."""

import json

import pytest

from runner import devices, engine, inflight, merge, provenance, tables
from runner.backends import fake
from runner.errors import BadInput
from runner.store import Store
from tests.samples import place, sweep

GRID = {"cores": [1, 2, 7], "instances": [1, 2], "batchSize": [1, 4]}
NUMBERS = ["slot", "objective", "status", "throughput_images_s", "latency_p95_s", "rank"]


def numbers(outcome: engine.Outcome) -> list[dict[str, object]]:
    return outcome.table.select(NUMBERS).to_pylist()


def manifest_of(home: Store):
    return tables.read_current(home)[1]


def faults(monkeypatch, *listed) -> None:
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"faults": listed}))


def files(store: Store, prefix: str) -> set[str]:
    return {entry.key for entry in store.list(prefix)}


def test_one_run_measures_every_slot_and_publishes_the_table(tmp_path):
    at = place(tmp_path, sweep(grid=GRID))
    outcome = engine.run(at)
    assert merge.counts(outcome.table)["ok"] == 24 == outcome.measured
    assert set(outcome.table["emulated"].to_pylist()) == {True}
    names = {key.rpartition("/")[2] for key in files(at.home, outcome.table_folder)}
    segments = manifest_of(at.home).segments
    assert names == {"table.parquet", "table.csv", "summary.md", "manifest.json", segments.file}
    read, _ = tables.read_current(at.home)
    assert read.select(NUMBERS).to_pylist() == numbers(outcome)
    assert segments.count == len(files(at.home, "results"))
    # Distinct binaries are compiled once: 2 models x 3 cores x 2 batches.
    assert len([k for k in files(at.root, "artifacts/binary") if k.endswith("manifest.json")]) == 12


def test_a_merge_looks_for_the_winners_once(tmp_path, monkeypatch):
    at = place(tmp_path, sweep(grid=GRID))
    outcome = engine.run(at)
    looked, winners = [], merge.winners
    monkeypatch.setattr(merge, "winners", lambda results: looked.append(1) or winners(results))
    engine.merge_(at.home, outcome.plan)
    assert len(looked) == 1


def test_a_second_run_measures_nothing(tmp_path):
    first = engine.run(place(tmp_path, sweep(grid=GRID)))
    at = place(tmp_path, sweep(grid=GRID))
    before = files(at.home, "results")
    second = engine.run(at)
    assert (second.measured, second.reused) == (0, 24)
    assert files(at.home, "results") == before
    assert numbers(second) == numbers(first)


def test_an_edit_is_a_diff(tmp_path):
    engine.run(place(tmp_path, sweep(grid=GRID)))
    more = engine.run(place(tmp_path, sweep(grid={**GRID, "cores": [1, 2, 3, 7]})))
    assert more.measured == 8
    fewer = engine.run(place(tmp_path, sweep(grid={**GRID, "cores": [2]})))
    assert fewer.measured == 0
    assert fewer.table.num_rows == 8
    again = engine.run(place(tmp_path, sweep(grid={**GRID, "cores": [2]}, run="2")))
    assert again.measured == 8


def test_failures_are_rows_and_are_tried_again_up_to_rounds(tmp_path, monkeypatch):
    faults(
        monkeypatch,
        {"stage": "run", "where": {"cores": 7}, "reason": "garbage"},
        {"stage": "compile", "where": {"cores": 2}, "verdict": "infeasible", "reason": "no-memory"},
    )
    at = place(tmp_path, sweep(grid=GRID, limits={"rounds": 2}))
    outcome = engine.run(at)
    assert merge.counts(outcome.table) == {"ok": 8, "failed": 8, "infeasible": 8, "unfit": 0, "missing": 0}
    tried = merge.past_of(engine.read_results(at.home))
    assert sorted({(p.verdict, p.attempts) for p in tried.values()}) == [
        ("failed", 2),
        ("infeasible", 1),
        ("ok", 1),
    ]
    # The compiler's refusal is remembered beside the binary's key, for every sweep.
    monkeypatch.delenv(fake.SETTINGS)
    other = engine.run(place(tmp_path, sweep(grid=GRID, run="other")))
    assert merge.counts(other.table)["infeasible"] == 8


def test_a_model_that_cannot_be_exported_fails_alone(tmp_path, monkeypatch):
    faults(
        monkeypatch,
        {"stage": "export", "where": {"source": "torchvision:resnet50"}, "reason": "export-error"},
    )
    outcome = engine.run(place(tmp_path, sweep(grid=GRID, limits={"rounds": 1})))
    rows = {(r["model"], r["status"], r["reason"]) for r in outcome.table.to_pylist()}
    assert rows == {("resnet50", "failed", "export-error"), ("mobilenet_v2", "ok", "")}


def test_what_a_device_is_at_fault_for_is_missing_with_the_reason_and_follows_later(tmp_path, monkeypatch):
    undisturbed = engine.run(place(tmp_path / "calm", sweep(grid=GRID)))
    fault = {"stage": "run", "where": {"cores": 7, "instances": 2, "batch_size": 4}, "reason": "device-hot"}
    faults(monkeypatch, {**fault, "verdict": "infrastructure"})
    at = place(tmp_path, sweep(grid=GRID))
    outcome = engine.run(at)
    assert not outcome.trouble
    rows = [row for row in outcome.table.to_pylist() if row["status"] != "ok"]
    assert {(r["status"], r["stage"], r["reason"], r["cores"]) for r in rows} == {
        ("missing", "run", "device-hot", 7)
    }
    monkeypatch.delenv(fake.SETTINGS)
    again = engine.run(place(tmp_path, sweep(grid=GRID)))
    assert again.measured == len(rows) == 2
    assert numbers(again) == numbers(undisturbed)


def test_a_device_that_fails_for_all_is_given_up_and_the_others_do_its_work(tmp_path, monkeypatch):
    fault = {"stage": "run", "where": {"device": "1"}, "reason": "device-error", "verdict": "infrastructure"}
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"devices": 3, "faults": [fault]}))
    wanted = sweep(models=["resnets"], grid=GRID, limits={"lotMinutes": 1})
    outcome = engine.run(place(tmp_path, wanted))
    assert merge.counts(outcome.table)["ok"] == len(set(outcome.table["slot"].to_pylist()))
    assert set(outcome.table["device"].to_pylist()) == {"fake-0", "fake-2"}
    assert not outcome.trouble


def test_when_no_device_is_left_the_table_holds_what_there_is_and_the_trouble_is_said(tmp_path, monkeypatch):
    faults(monkeypatch, {"stage": "run", "reason": "device-error", "verdict": "infrastructure"})
    outcome = engine.run(place(tmp_path, sweep(grid=GRID)))
    assert "no device is left" in outcome.trouble
    assert merge.counts(outcome.table)["missing"] == 24
    assert outcome.measured == devices.STRIKES


def test_when_every_slot_of_the_canary_fails_nothing_else_is_tried(tmp_path, monkeypatch):
    wanted = sweep(models=["resnets"], grid=GRID, limits={"lotMinutes": 5})
    faults(monkeypatch, {"stage": "run", "reason": "garbage"})
    outcome = engine.run(place(tmp_path, wanted))
    models = len(set(outcome.table["model"].to_pylist()))
    counts = merge.counts(outcome.table)
    assert counts["failed"] == outcome.measured == 2 * models
    assert counts["missing"] > 0
    assert (outcome.plan.round, outcome.exit_code) == (1, 1)
    assert "garbage" in outcome.trouble
    # A device's fault gives no such verdict, nor does what failed where others worked before.
    faults(monkeypatch, {"stage": "run", "verdict": "infrastructure", "where": {"cores": 7}})
    assert not engine.run(place(tmp_path, sweep(models=["resnet50"], grid={"cores": [2]}))).trouble
    faults(monkeypatch, {"stage": "run", "reason": "garbage"})
    more = engine.run(place(tmp_path, sweep(models=["resnet50"], grid={"cores": [2, 3]})))
    assert (more.trouble, more.exit_code, more.plan.round) == ("", 1, 3)


def test_a_canary_that_is_in_doubt_itself_is_judged_when_all_of_it_was_tried(tmp_path, monkeypatch):
    """An earlier run died beside each of its slots, so each is tried alone; the first one fails."""
    at = place(tmp_path, sweep(models=["resnet50"], grid=GRID, limits={"lotMinutes": 5}))
    tasks = engine.plan_round(at, 1, {}).tasks()
    for task in tasks:
        at.home.put_new(f"inflight/{inflight.HERE}/{task.slot}/w-dead", b"")
    where = {name: getattr(tasks[0].cell, name) for name in ("cores", "instances", "batch_size")}
    faults(monkeypatch, {"stage": "run", "where": where, "reason": "garbage"})
    outcome = engine.run(at)
    assert outcome.trouble == ""
    assert merge.counts(outcome.table) == {"ok": 11, "failed": 1, "infeasible": 0, "unfit": 0, "missing": 0}


def test_every_device_of_this_machine_measures_its_own_slots(tmp_path, monkeypatch):
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"devices": 3}))
    wanted = sweep(grid=GRID, placement="everyDevice", limits={"lotMinutes": 5})
    outcome = engine.run(place(tmp_path, wanted))
    rows = outcome.table.to_pylist()
    assert {(r["target"], r["device"]) for r in rows} == {(f"fake-{n}", f"fake-{n}") for n in range(3)}
    assert merge.counts(outcome.table)["ok"] == 3 * 24
    assert {r["fleet_ratio"] for r in rows} == {1.0}
    # One of them falls out: only its slots are missing, and say so.
    fault = {"stage": "run", "where": {"device": "1"}, "reason": "device-error", "verdict": "infrastructure"}
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"devices": 3, "faults": [fault]}))
    again = engine.run(
        place(tmp_path, wanted.model_copy(update={"spec": wanted.spec.model_copy(update={"run": "2"})}))
    )
    missing = {(r["target"], r["reason"]) for r in again.table.to_pylist() if r["status"] == "missing"}
    assert missing == {("fake-1", "device-error"), ("fake-1", "device-absent")}
    assert merge.counts(again.table)["ok"] == 2 * 24


def test_every_node_is_this_host_when_there_is_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"devices": 2}))
    outcome = engine.run(place(tmp_path, sweep(grid=GRID, placement="everyNode")))
    assert set(outcome.table["target"].to_pylist()) == {provenance.host()["host"]}
    assert merge.counts(outcome.table)["ok"] == 24


def test_a_contended_result_is_measured_again_and_used_only_until_there_is_a_better(tmp_path, monkeypatch):
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"contended": {"cores": 7}}))
    at = place(tmp_path, sweep(grid=GRID, limits={"rounds": 2}))
    outcome = engine.run(at)
    contended = [row for row in outcome.table.to_pylist() if row["cores"] == 7]
    assert {(r["status"], r["reason"]) for r in contended} == {("ok", "contended")}
    assert outcome.measured == 24 + 8
    monkeypatch.delenv(fake.SETTINGS)
    more = engine.run(place(tmp_path, sweep(grid=GRID, limits={"rounds": 3})))
    assert more.measured == 8
    assert set(more.table["reason"].to_pylist()) == {""}


@pytest.mark.parametrize(("reason", "tries"), [("wrong-output", 2), ("garbage", 4)])
def test_a_wrong_output_is_tried_once_more_other_failures_each_round(tmp_path, monkeypatch, reason, tries):
    faults(monkeypatch, {"stage": "run", "where": {"cores": 7}, "reason": reason})
    at = place(tmp_path, sweep(models=["resnet50"], grid=GRID, limits={"rounds": 4}))
    engine.run(at)
    past = merge.past_of(engine.read_results(at.home))
    assert {p.attempts for p in past.values() if p.verdict == "failed"} == {tries}


@pytest.mark.parametrize(
    ("stage", "where"), [("compile", {"cores": 7}), ("export", {"source": "torchvision:resnet50"})]
)
def test_memory_that_runs_out_while_building_is_tried_alone_before_it_is_a_verdict(
    tmp_path, monkeypatch, stage, where
):
    faults(monkeypatch, {"stage": stage, "where": where, "reason": "killed"})
    at = place(tmp_path, sweep(grid=GRID))
    outcome = engine.run(at)
    rows = [row for row in outcome.table.to_pylist() if where.items() <= row.items()]
    assert len(rows) == (8 if stage == "compile" else 12)
    assert {(r["status"], r["reason"]) for r in rows} == {("infeasible", "host-memory")}
    # A verdict on this host, not on the graph: nothing is remembered for other sweeps.
    assert not [key for key in files(at.root, "artifacts/binary") if key.endswith("infeasible.json")]


def test_an_interruption_keeps_what_was_measured(tmp_path, monkeypatch):
    at = place(tmp_path, sweep(grid=GRID))
    done = []

    def stop_at_the_fifth(stage: str, label: str, outcome: str, estimate_s: float) -> None:
        done.append(stage)
        if done.count("measure") == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(at.reporter, "step", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        engine.run(at)
    assert engine.read_results(at.home).table.num_rows == 5
    assert engine.run(place(tmp_path, sweep(grid=GRID))).measured == 19


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"grid": {"cores": [1, 15]}}, r"spec\.grid\.cores\[1\]: 15 cores, there are 14"),
        ({"grid": {"cores": [1, 2], "batchSize": [1, 2]}, "limits": {"maxCells": 7}}, "maxCells: 8"),
        ({"limits": {"maxDeviceHours": 0.001}}, "maxDeviceHours: "),
        ({"models": ["onnx:/nowhere/x.onnx"]}, "No such file"),
    ],
)
def test_limits_are_refused_before_anything_runs(tmp_path, spec, words):
    at = place(tmp_path, sweep(**spec))
    with pytest.raises(BadInput, match=words):
        engine.run(at)
    assert files(at.root, "sweeps") == set()


def test_a_grid_of_a_billion_is_refused_without_expanding(tmp_path):
    axis = list(range(1, 65))
    wanted = sweep(grid={"batchSize": axis, "setSize": axis, "instances": axis, "imageSize": list(range(64, 128)),
                         "cores": axis[:14], "ols": axis[:8]})  # fmt: skip
    with pytest.raises(BadInput, match="3,758,096,384 cells"):
        engine.run(place(tmp_path, wanted))
