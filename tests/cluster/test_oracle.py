"""What the tests of faults trust: that a wrong table and a lying status are found."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from runner import engine
from tests import samples
from tests.cluster.oracle import differences, find_lies, results, undisturbed


def state(generation: int = 1, observed: int = 1, done: int = 0, **more: Any) -> dict[str, Any]:
    status = {"observedGeneration": observed, "cells": {"done": done}, **more}
    return {"metadata": {"uid": "u", "generation": generation}, "status": status}


def ended(url: str, done: int, *conditions: str) -> dict[str, Any]:
    told = [{"type": name, "status": "True"} for name in conditions]
    return state(done=done, tableUrl=url, conditions=told)


@pytest.fixture
def table_url(tmp_path: Path) -> str:
    """Of a table with two slots done."""
    at = samples.place(tmp_path, samples.sweep(models=["resnet50"], grid={"cores": [1, 2]}))
    return f"{at.home.url}/{engine.run(at).table_folder}"


def test_what_is_so_is_no_lie(table_url: str) -> None:
    assert list(find_lies(state(done=1), ended(table_url, 2, "Complete"))) == []
    assert list(find_lies(None, state())) == []
    # What was said of another spec binds nobody.
    assert list(find_lies(state(generation=2, observed=1, done=9), state(generation=2, observed=2))) == []


def test_lies(table_url: str, tmp_path: Path) -> None:
    complete = ended(table_url, 2, "Complete")
    assert list(find_lies(state(done=3), state(done=2))) == ["done fell from {'done': 3} to {'done': 2}"]
    assert list(find_lies(complete, state(done=2))) == ["Complete was taken back"]
    assert "Complete and Failed" in list(find_lies(None, ended(table_url, 2, "Complete", "Failed")))
    assert list(find_lies(None, ended(table_url, 1, "Complete"))) == ["Complete with 1 done, the table has 2"]
    early = ended(f"{tmp_path / 'nothing'}/tables/x", 4, "Complete")
    assert list(find_lies(None, early)) == ["Complete before the table was there"]


def test_differences(tmp_path: Path) -> None:
    spec = {"models": ["resnet50"], "grid": {"cores": [1, 2]}}
    found = results(engine.run(samples.place(tmp_path, samples.sweep(**spec))).table)
    assert differences(found, undisturbed(**spec)) == []
    assert differences(found[1:], found) == ["1 rows in place of 2, or others"]
    wrong = copy.deepcopy(found)
    wrong[0]["throughput_images_s"] = 0.0
    (text,) = differences(wrong, found)
    assert "throughput_images_s: 0.0 in place of" in text
