"""Every example is loaded, planned and run, with the fake in place of the device."""

from pathlib import Path

import pytest

from runner import admission, engine, lut, merge, overview
from runner.backends import load
from runner.sweepfile import load_sweep
from tests.samples import place

FILES = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))


def test_there_are_examples():
    assert {f.stem for f in FILES} >= {"quickstart", "seed-all", "cores-instances", "batch", "fleet"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_example(file, tmp_path):
    sweep = load_sweep(file)
    assert sweep.name == file.stem
    fake = sweep.model_copy(update={"spec": sweep.spec.model_copy(update={"backend": "fake"})})
    outcome = engine.run(place(tmp_path, fake))
    counts = merge.counts(outcome.table)
    assert counts["ok"] == outcome.measured > 0
    assert counts["ok"] + counts["unfit"] == sum(counts.values())


@pytest.mark.parametrize("name", ["seed-all", "cores-instances"])
def test_cards_are_planned_without_an_sdk(name):
    sweep = load_sweep(next(f for f in FILES if f.stem == name))
    summary = overview.of_plan(admission.make_plan(sweep, load("qaic"), lut.shipped()))
    assert summary["unfit"] == []
    assert summary["binaries"] > summary["exports"] > 0
    if name == "seed-all":
        assert (summary["models"], summary["rows"], summary["exports"]) == (53, 106, 53)
