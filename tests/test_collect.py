"""What can go of a store, and all that must not. Age is given by asking as if it were later."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner import artifacts, collect, engine, merge
from runner.backends import fake
from runner.store import Store, open_store
from runner.stored import keep_plan, sweep_folders
from runner.verify import verify
from tests.samples import Silent, place, sweep

GRID = {"cores": [1, 2], "instances": [1, 2]}
DAY = timedelta(days=1)


def later(days: float = 2) -> datetime:
    return datetime.now(UTC) + days * DAY


def found(root: Store, now: datetime | None = None) -> set[tuple[str, str]]:
    found = collect.find(root, now or later(), DAY, Silent())
    return {(garbage.kind, garbage.name) for garbage in found.garbage}


def run(folder: Path, **spec) -> engine.Workplace:
    at = place(folder, sweep(**{"grid": GRID, **spec}))
    engine.run(at)
    return at


def keys(root: Store) -> set[str]:
    return {entry.key for entry in root.list()}


def forget(root: Store, prefix: str) -> None:
    root.delete(entry.key for entry in root.list(prefix))


def test_all_of_a_finished_sweep_is_kept(tmp_path: Path) -> None:
    assert found(run(tmp_path).root) == set()


def test_artefacts_of_a_sweep_that_was_let_go_are_removed_and_those_shared_are_not(tmp_path: Path) -> None:
    kept = run(tmp_path, models=["resnet50"])
    gone = run(tmp_path, run="2", grid={"cores": [1, 2, 7], "instances": [1]})
    root = gone.root
    everything = keys(root)
    forget(root, gone.prefix)
    assert sweep_folders(root) == [kept.prefix]
    garbage = collect.find(root, later(), DAY, Silent())
    # Of resnet50 the binary for 7 cores, of mobilenet_v2 all three and the graph.
    assert sorted(item.name.split("/")[1] for item in garbage.garbage) == ["binary"] * 4 + ["export"]
    assert {item.kind for item in garbage.garbage} == {"artefact"}
    assert all(item.size_bytes > 0 for item in garbage.garbage)
    list(collect.remove(root, garbage))
    assert found(root) == set()
    assert keys(root) < everything
    assert verify(root, kept.prefix, Silent()).proven
    # What was removed is made again by whoever needs it.
    assert engine.run(place(tmp_path, sweep(grid=GRID, run="3"))).exit_code == 0


def test_what_is_young_stays(tmp_path: Path) -> None:
    at = run(tmp_path)
    forget(at.root, at.prefix)
    assert found(at.root, later(0.9)) == set()
    assert len(found(at.root)) == 6


def test_what_a_sweep_at_work_may_ask_for_stays_whatever_its_age(tmp_path: Path) -> None:
    """Exported and compiled days ago, and no result names it yet."""
    at = place(tmp_path, sweep(grid=GRID))
    planned = engine.plan_round(at, 1, {})
    keep_plan(at.home, planned)
    engine.compile_(at, planned.tasks(), engine.export(at, planned.exports()))
    assert len(keys(at.root)) > 6
    assert found(at.root) == set()


def test_a_sweep_that_begins_between_looking_and_removing_keeps_what_it_asks_for(tmp_path: Path) -> None:
    gone = run(tmp_path)
    forget(gone.root, gone.prefix)
    garbage = collect.find(gone.root, later(), DAY, Silent())
    assert len(garbage.garbage) == 6
    at = place(tmp_path, sweep(grid=GRID, models=["resnet50"], run="2"))
    planned = engine.plan_round(at, 1, {})
    keep_plan(at.home, planned)
    removed = list(collect.remove(at.root, garbage))
    assert len(removed) == 3
    assert engine.run(at).exit_code == 0


def test_a_sweep_that_begins_while_things_are_removed_keeps_what_is_left_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "BATCH", 1)
    gone = run(tmp_path)
    forget(gone.root, gone.prefix)
    removing = iter(collect.remove(gone.root, collect.find(gone.root, later(), DAY, Silent())))
    next(removing)
    at = place(tmp_path, sweep(grid=GRID, models=["resnet50"], run="2"))
    keep_plan(at.home, engine.plan_round(at, 1, {}))
    # Of the six three are resnet50's, and the first that went may be one of them.
    assert len(list(removing)) in (2, 3)
    assert engine.run(at).exit_code == 0


def test_a_plan_that_is_deleted_while_things_are_removed_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep begins and is let go again, between the list of its plans and the look at them."""
    gone = run(tmp_path)
    forget(gone.root, gone.prefix)
    looked = collect.find(gone.root, later(), DAY, Silent())
    at = place(tmp_path, sweep(grid=GRID, models=["resnet50"], run="2"))
    keep_plan(at.home, engine.plan_round(at, 1, {}))
    plans_of = collect.plans_of

    def let_go(home: Store) -> object:
        plans = plans_of(home)
        forget(at.root, at.prefix)
        return plans

    monkeypatch.setattr(collect, "plans_of", let_go)
    assert len(list(collect.remove(gone.root, looked))) == 6


def test_a_plan_that_comes_back_is_the_newest_again(tmp_path: Path) -> None:
    """The file was edited, and edited back: what the first plan asks for was compiled days ago."""
    at = place(tmp_path, sweep(grid=GRID))
    planned = engine.plan_round(at, 1, {})
    keep_plan(at.home, planned)
    engine.compile_(at, planned.tasks(), engine.export(at, planned.exports()))
    edited = place(tmp_path, sweep(grid=GRID, models=["resnet18"]))
    other = engine.plan_round(edited, 1, {})
    keep_plan(at.home, other)
    assert len(found(at.root)) == 6
    looked = collect.find(at.root, later(), DAY, Silent())
    keep_plan(at.home, planned)
    assert list(collect.remove(at.root, looked)) == []
    assert found(at.root) == set()


def test_what_is_written_to_between_looking_and_removing_stays(tmp_path: Path) -> None:
    gone = run(tmp_path)
    forget(gone.root, gone.prefix)
    garbage = collect.find(gone.root, later(), DAY, Silent())
    first = garbage.garbage[0]
    path = gone.root.local_path(first.objects[0].key)
    assert path is not None
    os.utime(path, (time.time() + 10, time.time() + 10))
    assert first not in list(collect.remove(gone.root, garbage))


def test_where_a_sweep_cannot_be_read_no_artefact_is_removed(tmp_path: Path) -> None:
    gone = run(tmp_path, run="2", grid={"cores": [7], "instances": [1]})
    kept = run(tmp_path)
    forget(gone.root, gone.prefix)
    assert len(found(kept.root)) == 2
    segment = next(entry.key for entry in kept.home.list("results"))
    whole = kept.home.get(segment)
    kept.home.put(segment, whole[:-3])
    seen = collect.find(kept.root, later(), DAY, Silent())
    assert seen.garbage == []
    assert segment in seen.blind[0]
    kept.home.put(segment, whole)
    current = next(entry.key for entry in kept.home.list("plans"))
    kept.home.put(current, b"x")
    assert found(kept.root) == set()


def test_half_made_artefacts_and_rivals_go_and_the_artefact_stays(tmp_path: Path) -> None:
    at = run(tmp_path, models=["resnet50"])
    manifest = next(e.key for e in at.root.list("artifacts/export") if e.key.endswith("manifest.json"))
    base = manifest.rpartition("/")[0]
    at.root.put(f"{base}/0123456789abcdef/model.onnx", b"of a slower writer")
    at.root.put("artifacts/binary/ffff/0123456789abcdef/programqpc.bin", b"of a killed one")
    artifacts.record_infeasible(at.root, "binary", "eeee", {"reason": "x", "message": "y"})
    assert found(at.root) == {
        ("half made", f"{base}/0123456789abcdef"),
        ("half made", "artifacts/binary/ffff/0123456789abcdef"),
    }
    list(collect.remove(at.root, collect.find(at.root, later(), DAY, Silent())))
    assert verify(at.root, at.prefix, Silent()).proven
    assert artifacts.find_infeasible(at.root, "binary", "eeee")


@pytest.mark.parametrize("data", [b"{", b"{}", b"\xff", b'{"schema_number": 2}'])
def test_of_an_artefact_whose_manifest_cant_be_understood_nothing_is_removed(
    tmp_path: Path, data: bytes
) -> None:
    """Which files are its own is not known; it may be mended by hand, or be another version's."""
    at = run(tmp_path, models=["resnet50"])
    for manifest in [key for key in keys(at.root) if key.endswith("manifest.json") and "artifacts/" in key]:
        at.root.put(manifest, data)
    assert found(at.root) == set()
    forget(at.root, at.prefix)
    assert found(at.root) == set()


@pytest.mark.parametrize("mend", [lambda manifest: manifest, lambda manifest: b"{"])
def test_half_made_files_that_a_manifest_names_since_stay(
    tmp_path: Path, mend: Callable[[bytes], bytes]
) -> None:
    at = run(tmp_path, models=["resnet50"])
    manifest = next(key for key in sorted(keys(at.root)) if "artifacts/" in key and "manifest" in key)
    data, before = at.root.get(manifest), keys(at.root)
    at.root.delete([manifest])
    looked = collect.find(at.root, later(), DAY, Silent())
    assert [item.kind for item in looked.garbage] == ["half made"]
    at.root.put(manifest, mend(data))
    assert list(collect.remove(at.root, looked)) == []
    assert keys(at.root) == before


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", ["results", "plans", "tables"])
def test_clusters_namespaces_sweeps_and_runs_may_have_the_names_of_folders(
    tmp_path: Path, name: str, part: int
) -> None:
    names = ["local", "default", "sample", "1"]
    names[part] = name
    at = dataclasses.replace(place(tmp_path, sweep(grid=GRID)), prefix="/".join(["sweeps", *names]))
    engine.run(at)
    other = run(tmp_path, run="2")
    assert sorted(sweep_folders(at.root)) == sorted([at.prefix, other.prefix])
    assert sweep_folders(at.home) == [""]
    assert found(at.root) == set()


def test_a_verdict_that_was_overruled_goes_with_its_artefact_and_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left behind it would tell the next sweep that nobody can make what was made."""
    at = run(tmp_path, models=["resnet50"])
    binary = next(e.key for e in at.root.list("artifacts/binary") if e.key.endswith("manifest.json"))
    artifacts.record_infeasible(at.root, "binary", binary.split("/")[2], {"reason": "x", "message": "y"})
    forget(at.root, at.prefix)
    calls: list[set[str]] = []
    delete = Store.delete

    def noted(store: Store, some: Iterable[str]) -> None:
        some = list(some)
        calls.append({key.rpartition("/")[2] for key in some})
        delete(store, some)

    monkeypatch.setattr(Store, "delete", noted)
    list(collect.remove(at.root, collect.find(at.root, later(), DAY, Silent())))
    assert keys(at.root) == {".probe/aicsweep"}
    assert calls == [{"infeasible.json"}, {"manifest.json"}, {"model.onnx", "programqpc.bin"}]


def test_what_was_made_for_slots_that_are_tried_again_stays(tmp_path: Path, monkeypatch) -> None:
    """Compiled days ago; the only results of its slots are of before, and say that nobody can."""
    fault = {"stage": "compile", "where": {"cores": 2}, "verdict": "infeasible", "reason": "no-memory"}
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"faults": [fault]}))
    at = run(tmp_path, models=["resnet50"])
    monkeypatch.delenv(fake.SETTINGS)
    results = engine.read_results(at.home)
    infeasible = {row["slot"] for row in results.table.to_pylist() if row["status"] == "infeasible"}
    planned = engine.plan_round(at, 1, merge.past_of(results, dict.fromkeys(infeasible, 1)))
    keep_plan(at.home, planned)
    made = engine.compile_(at, planned.tasks(), engine.export(at, planned.exports()))
    assert len(made.binaries) == 1
    assert found(at.root) == set()


def test_what_killed_writers_left_in_a_folder(tmp_path: Path) -> None:
    at = run(tmp_path, models=["resnet50"])
    folder = at.home.local_path("results")
    assert folder is not None
    (folder / "a.csv.zst#123").write_bytes(b"half")
    (folder / "my notes #1").write_bytes(b"somebody's")
    before = keys(at.root)
    name = f"{at.prefix}/results/a.csv.zst#123"
    assert found(at.root) == {("litter", name)}
    assert found(at.root, later(0.5)) == set()
    list(collect.remove(at.root, collect.find(at.root, later(), DAY, Silent())))
    assert keys(at.root) == before
    assert (folder / "my notes #1").exists()
    assert not (folder / "a.csv.zst#123").exists()


def test_superseded_tables_plans_without_results_and_their_markers_go_results_never(tmp_path: Path) -> None:
    at = run(tmp_path, models=["resnet50"])
    (first,) = (entry.key for entry in at.home.list("plans"))
    # Nothing new to measure: its plan has no results.
    run(tmp_path, models=["resnet50"], grid={"cores": [1], "instances": [1, 2]})
    run(tmp_path, models=["resnet50"], grid={"cores": [1], "instances": [1]})
    digest = first.removeprefix("plans/").removesuffix(".parquet")
    at.home.put(f"inflight/{digest}/00000/pod.begun", b"")
    before = keys(at.root)
    garbage = collect.find(at.root, later(), DAY, Silent())
    assert sorted(item.kind for item in garbage.garbage) == ["markers", "plan", "table", "table"]
    list(collect.remove(at.root, garbage))
    assert {key for key in before - keys(at.root) if "/results/" in key} == set()
    assert first in {entry.key for entry in at.home.list("plans")}
    assert verify(at.root, at.prefix, Silent()).proven


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_objects_are_deleted_and_one_that_is_gone_is_no_error(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "s") if kind == "folder" else f"s3://{request.getfixturevalue('s3_bucket')}/p"
    store = open_store(url)
    store.put("a/b", b"x")
    store.put("a/c", b"x")
    store.put("a/d", b"x")
    store.delete(["a/b", "a/never", "a/d"])
    store.delete([])
    assert [entry.key for entry in store.list()] == ["a/c"]
    assert store.litter() == []
