"""A whole sweep on emulated cards: export, compile, measure, merge, with faults on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import engine
from runner.backends import qaic
from tests import samples
from tests.backends.qaic.networks import SIZE, open_exporter
from tests.emulated_sdk import Card, Fault, Sdk


@pytest.fixture
def two_cards(emulated: Sdk) -> Sdk:
    emulated.set_cards([Card(serial="A"), Card(serial="B")])
    return emulated


def test_a_sweep_on_two_cards_gives_every_slot_its_verdict(
    two_cards: Sdk, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Importing torch would take most of this test's time.
    monkeypatch.setattr(qaic, "open_exporter", open_exporter)
    two_cards.set_faults(
        [
            Fault("compile", "unsupported-operator", where={"cores": 4}),
            Fault("runner", "wrong-output", where={"cores": 7}),
            Fault("runner", "no-statistics", where={"cores": 1}, times=1),
        ]
    )
    wanted = samples.sweep(
        backend="qaic",
        models=[f"onnx:{graph}"],
        objectives=["best-throughput"],
        grid={"cores": [1, 2, 4, 7], "instances": ["fill"], "batchSize": [1, 2], "imageSize": [SIZE]},
        measure={"seconds": 2, "repeats": 2},
        limits={"lotMinutes": 1},
    )
    outcome = engine.run(samples.place(tmp_path, wanted))
    rows = outcome.table.to_pylist()
    assert len(rows) == 8
    by_cores = {cores: {row["status"] for row in rows if row["cores"] == cores} for cores in (1, 2, 4, 7)}
    assert by_cores == {1: {"ok"}, 2: {"ok"}, 4: {"infeasible"}, 7: {"failed"}}
    assert {row["reason"] for row in rows if row["cores"] == 7} == {"wrong-output"}
    good = [row for row in rows if row["status"] == "ok"]
    assert all(row["output_relative_error"] < 0.01 and row["throughput_images_s"] > 0 for row in good)
    used = {call.argv[call.argv.index("-d") + 1] for call in two_cards.calls("qaic-runner")}
    assert used == {"0", "1"}
    assert {row["device"] for row in good} <= {"A", "B"}
    # Each distinct program once.
    compiled = [call.argv for call in two_cards.calls("qaic-compile")]
    assert len({tuple(argv[1:8]) for argv in compiled}) == len(compiled) == 8
