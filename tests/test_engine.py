"""The flow end to end with the fake backend; the oracle is an undisturbed run's result columns."""

import json

import pytest

from runner import engine, merge, tables
from runner.backends import fake
from runner.errors import BadInput, Infrastructure
from runner.store import Store
from tests.samples import place, sweep

GRID = {"cores": [1, 2, 7], "instances": [1, 2], "batchSize": [1, 4]}
NUMBERS = ["slot", "objective", "status", "throughput_images_s", "latency_p95_s", "rank"]


def numbers(outcome: engine.Outcome) -> list[dict[str, object]]:
    return outcome.table.select(NUMBERS).to_pylist()


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
    assert names == {"table.parquet", "table.csv", "summary.md", "manifest.json"}
    read, manifest = tables.read_current(at.home)
    assert read.select(NUMBERS).to_pylist() == numbers(outcome)
    assert set(manifest["segments"]) == files(at.home, "results")
    # Distinct binaries are compiled once: 2 models x 3 cores x 2 batches.
    assert len([k for k in files(at.root, "artifacts/binary") if k.endswith("manifest.json")]) == 12


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


@pytest.mark.parametrize("where", [{"batch_size": 4}, {"cores": 7, "instances": 2}])
def test_what_was_measured_before_a_breakdown_is_kept_and_the_rest_follows(tmp_path, monkeypatch, where):
    undisturbed = engine.run(place(tmp_path / "calm", sweep(grid=GRID)))
    faults(monkeypatch, {"stage": "run", "where": where, "verdict": "infrastructure"})
    with pytest.raises(Infrastructure):
        engine.run(place(tmp_path, sweep(grid=GRID)))
    kept = engine.read_results(place(tmp_path, sweep(grid=GRID)).home).table.num_rows
    monkeypatch.delenv(fake.SETTINGS)
    outcome = engine.run(place(tmp_path, sweep(grid=GRID)))
    assert outcome.measured == 24 - kept
    assert numbers(outcome) == numbers(undisturbed)


def test_an_interruption_keeps_what_was_measured(tmp_path, monkeypatch):
    at = place(tmp_path, sweep(grid=GRID))
    done = []

    def stop_at_the_fifth(label: str, outcome: str, estimate_s: float) -> None:
        done.append(label)
        if " batch " in label and len([d for d in done if " batch " in d]) == 5:
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
