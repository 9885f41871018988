"""`aicsweep run` killed anywhere: the next run goes on, and its table is that of an undisturbed one.

Every point at which it may be struck is listed by an undisturbed run (`server`), then each has its turn.
"""

from __future__ import annotations

import random
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner import artifacts
from runner.store import open_store
from tests.crashes.runs import LARGER, Calm, Runs, Scene, forking, numbers, undisturbed

# Two hundred kills.
SEEDS, KILLS_A_SEED = 25, 8
# So that a test takes some seconds and a failure names few points.
PARTS = 6


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_point_of_a_run_into_a_folder(
    runs: Runs, calm: Calm, tmp_path: Path, part: int
) -> None:
    kinds = ("before put", "after put", "before get", "before list", "name", "stage", "step")
    for kind in kinds:
        assert any(kind in point for point in calm.points), kind
    for number, point in list(enumerate(calm.points, 1))[part::PARTS]:
        scene = Scene(runs, tmp_path / str(number))
        assert scene.run(number) == -signal.SIGKILL, point
        assert scene.run() == 0, point
        scene.ends_well(calm, kills=1)


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_write_of_a_run_into_a_bucket(
    runs: Runs, tmp_path: Path, s3_bucket: str, part: int
) -> None:
    """Before and after it; what lies between two writes, a kill can't change: those are struck in a folder."""
    bucket = open_store(f"s3://{s3_bucket}")
    calm = undisturbed(Scene(runs, tmp_path / "calm", bucket.at("calm"), cores="1"))
    writes = ("before put", "after put")
    points = [(n, point) for n, point in enumerate(calm.points, 1) if point.startswith(writes)]
    assert len(points) > 20
    for number, point in points[part::PARTS]:
        scene = Scene(runs, tmp_path / str(number), bucket.at(str(number)), cores="1")
        assert scene.run(number) == -signal.SIGKILL, point
        assert scene.run() == 0, point
        scene.ends_well(calm, kills=1)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_again_and_again(runs: Runs, larger: Calm, tmp_path: Path, seed: int) -> None:
    """At points drawn by lot, so often in a row, on one store."""
    draw = random.Random(seed)
    scene = Scene(runs, tmp_path / "scene", **LARGER)
    strikes: list[int] = []
    kills = 0
    while kills < KILLS_A_SEED:
        strikes.append(draw.randint(1, 50))
        # A run that has little left to do may end before its point.
        code = scene.run(strikes[-1])
        assert code in (-signal.SIGKILL, 0), strikes
        kills += code == -signal.SIGKILL
    assert scene.run() == 0, strikes
    scene.ends_well(larger, kills=kills)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_anywhere_and_asked_twice(
    runs: Runs, calm: Calm, tmp_path: Path, number: signal.Signals
) -> None:
    """Every fifth point, and there again two points later, as an impatient person does it."""
    points = calm.points
    for at in range(1 + number % 5, len(points), 5):
        scene = Scene(runs, tmp_path / str(at))
        code = scene.run(at, at + 2, with_signal=number)
        assert code in (130, 0), points[at - 1]
        assert scene.run() == 0
        scene.ends_well(calm, kills=2)


def test_two_engines_on_one_store_at_once(runs: Runs, larger: Calm, tmp_path: Path) -> None:
    """Neither knows of the other; each result counts, and the tables agree."""
    scene = Scene(runs, tmp_path / "scene", **LARGER)
    with forking() as others, ThreadPoolExecutor(2) as pool:
        twin = Scene(others, tmp_path / "twin", scene.root, **LARGER)
        codes = list(pool.map(lambda one: one.run(AICSWEEP_FAKE='{"sleep_s": 0.02}'), (scene, twin)))
    assert codes == [0, 0]
    assert numbers(scene.table()) == larger.numbers
    # Whoever ended first has merged what there was then; another merge changes no number.
    assert scene.run() == 0
    assert numbers(scene.table()) == larger.numbers
    assert scene.findings() == []


def test_a_second_engine_does_not_what_the_first_has_done(runs: Runs, calm: Calm, tmp_path: Path) -> None:
    """It begins while the first one runs: what is in the store by then is not done again."""
    scene = Scene(runs, tmp_path / "scene")
    last = next(n for n, point in enumerate(calm.points, 1) if point.startswith("before put tables"))
    assert scene.run(last) == -signal.SIGKILL
    done = scene.said("work")
    assert scene.run() == 0
    assert scene.said("work") == done


def test_two_merges_at_once_give_one_table(runs: Runs, calm: Calm, tmp_path: Path) -> None:
    scene = Scene(runs, tmp_path / "scene")
    assert scene.run() == 0
    with forking() as others, ThreadPoolExecutor(2) as pool:
        both = [(runs, tmp_path / "a"), (others, tmp_path / "b")]
        for _ in range(5):
            codes = list(pool.map(lambda one: one[0].run(one[1], "merge", scene.root.url), both))
            assert codes == [0, 0]
            scene.ends_well(calm, kills=0)


def test_a_merge_killed_anywhere_leaves_a_whole_table(runs: Runs, calm: Calm, tmp_path: Path) -> None:
    """The old one or the new one."""
    scene = Scene(runs, tmp_path / "scene")
    assert scene.run() == 0
    assert runs.run(tmp_path / "calm", "merge", scene.root.url) == 0
    count = len((tmp_path / "calm" / "points").read_text().splitlines())
    for at in range(1, count + 1):
        assert runs.run(tmp_path / f"merge-{at}", "merge", scene.root.url, strikes=[at]) == -signal.SIGKILL
        scene.ends_well(calm, kills=0)


def test_gc_killed_anywhere_leaves_what_is_whole_and_goes_on(
    runs: Runs, calm: Calm, larger: Calm, tmp_path: Path
) -> None:
    """Of two models one is still needed; whatever is left of the other one's artefacts, they are made anew."""

    def collecting(folder: str, scene: Scene, *strikes: int) -> int:
        arguments = ("gc", scene.root.url, "--yes", "--older-than", "0m")
        return runs.run(tmp_path / folder, *arguments, strikes=strikes)

    whole = Scene(runs, tmp_path / "whole", **LARGER)
    assert whole.run() == 0
    kept = Scene(runs, tmp_path / "kept", whole.root)
    kept.home.delete([entry.key for entry in kept.home.list()])
    assert kept.run() == 0
    before = {entry.key: whole.root.get(entry.key) for entry in whole.root.list()}
    assert collecting("calm", whole) == 0
    after = {entry.key for entry in whole.root.list()}
    gone = before.keys() - after
    # A graph and three binaries, and one for the model that is kept: each with its manifest.
    assert len(gone) == 10
    points = (tmp_path / "calm" / "points").read_text().splitlines()
    assert len([point for point in points if point.startswith("before unlink")]) == len(gone)
    # Before that it only reads.
    begin = next(number for number, point in enumerate(points, 1) if "delete" in point)
    for at in range(begin, len(points) + 1):
        for key, data in before.items():
            if not kept.root.exists(key):
                kept.root.put(key, data)
        assert collecting(f"gc-{at}", kept, at) == -signal.SIGKILL, points[at - 1]
        assert kept.findings() == [], points[at - 1]
        for entry in kept.root.list("artifacts"):
            if entry.key.endswith("manifest.json"):
                _, kind, key, _ = entry.key.split("/")
                artifact = artifacts.find(kept.root, kind, key)
                assert all(kept.root.exists(file.object_key) for file in artifact.files.values())
        assert collecting(f"gc-{at}-on", kept) == 0
        assert {entry.key for entry in kept.root.list()} == after, points[at - 1]
    assert numbers(kept.table()) == calm.numbers
    assert whole.run() == 0
    assert numbers(whole.table()) == larger.numbers
    assert whole.findings() == []
