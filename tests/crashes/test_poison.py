"""What ends `aicsweep run` itself every time is told from the rest after two deaths, and the rest is measured."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.store import open_store
from tests.crashes.runs import LARGER, Calm, Runs, Scene, forking, numbers

KILLER = {"source": "torchvision:resnet50", "cores": 2}


def poisoned(stage: str, where: dict[str, Any], **more: Any) -> str:
    return json.dumps({"faults": [{"stage": stage, "where": where, "verdict": "kill"}], **more})


def statuses(scene: Scene) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in scene.table().select(["status", "stage", "reason"]).to_pylist():
        name = " ".join(filter(None, row.values()))
        counts[name] = counts.get(name, 0) + 1
    return counts


@pytest.mark.parametrize(
    ("stage", "where", "lost"),
    [("run", KILLER, 1), ("compile", KILLER, 1), ("export", {"source": KILLER["source"]}, 3)],
)
def test_two_deaths_are_enough_and_the_others_finish(
    runs: Runs, larger: Calm, tmp_path: Path, stage: str, where: dict[str, Any], lost: int
) -> None:
    scene = Scene(runs, tmp_path / "scene", **LARGER)
    codes = [scene.run(AICSWEEP_FAKE=poisoned(stage, where)) for _ in range(3)]
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 1]
    assert statuses(scene) == {"ok": 6 - lost, f"failed {stage} killed": lost}
    good = {row["slot"] for row in numbers(scene.table()) if row["status"] == "ok"}
    assert [row for row in numbers(scene.table()) if row["slot"] in good] == [
        row for row in larger.numbers if row["slot"] in good
    ]
    assert scene.findings() == []
    # A verdict is final: nothing is tried again, and nobody dies any more.
    assert scene.run(AICSWEEP_FAKE=poisoned(stage, where)) == 1
    assert (
        "2 runs that worked on it were killed"
        in scene.table()
        .filter([row["status"] == "failed" for row in scene.table().to_pylist()])["message"]
        .to_pylist()[0]
    )


def test_what_ran_beside_it_is_not_blamed(runs: Runs, tmp_path: Path) -> None:
    """Three cards; on the others something is in flight when it strikes."""
    scene = Scene(runs, tmp_path / "scene", **LARGER)
    fake = poisoned("run", KILLER, devices=3, sleep_s=0.05)
    codes = [scene.run(AICSWEEP_FAKE=fake) for _ in range(3)]
    assert codes[-1] == 1
    assert statuses(scene) == {"ok": 5, "failed run killed": 1}


def test_another_run_that_lives_is_not_taken_for_dead(runs: Runs, tmp_path: Path) -> None:
    """While it measures, others begin and die twice at something else."""
    scene = Scene(runs, tmp_path / "scene")
    with forking() as others, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(scene.run, AICSWEEP_FAKE='{"sleep_s": 0.5}')
        twin = Scene(others, tmp_path / "twin", open_store(scene.root.url))
        for _ in range(3):
            twin.run(AICSWEEP_FAKE='{"sleep_s": 0.1}', XDG_CACHE_HOME=str(scene.folder / "cache"))
        assert slow.result() == 0
    assert statuses(scene) == {"ok": 2}
    assert scene.home.list("inflight") == []


def test_a_cache_that_cant_be_written_is_said_and_the_run_goes_on(
    runs: Runs, calm: Calm, tmp_path: Path
) -> None:
    scene = Scene(runs, tmp_path / "scene")
    assert scene.run(XDG_CACHE_HOME="/proc/nowhere") == 0
    assert "can't be written" in "\n".join(scene.said("log"))
    scene.ends_well(calm, kills=0)


def test_no_room_for_artefacts_of_a_bucket_is_said(runs: Runs, tmp_path: Path, s3_bucket: str) -> None:
    scene = Scene(runs, tmp_path / "scene", open_store(f"s3://{s3_bucket}"))
    assert scene.run(XDG_CACHE_HOME="/proc/nowhere") == 3
    words = "\n".join(scene.said("log"))
    assert "can't keep an artefact in /proc/nowhere/aicsweep/artifacts" in words
    assert "name another folder" in words
    assert "Traceback" not in words
    assert scene.run() == 0
    assert scene.findings() == []
