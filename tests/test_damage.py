"""What is done to a store between and during runs: the next run makes good what was lost, and the table is as ever."""

from __future__ import annotations

import builtins
import datetime
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from runner import engine, measure, merge
from runner.errors import StoreError
from runner.result import encode_segment
from runner.segments import parse_segments
from runner.store import Listed, Store
from runner.verify import verify
from tests.samples import Silent, place, sweep
from tests.test_engine import numbers
from tests.test_merge import HEADER, ok

GRID = {"cores": [1, 2], "instances": [1, 2]}


@pytest.fixture
def at(tmp_path: Path) -> engine.Workplace:
    return place(tmp_path, sweep(grid=GRID))


@pytest.fixture
def calm(at: engine.Workplace) -> list[dict[str, object]]:
    """The numbers of the sweep that has run there."""
    return numbers(engine.run(at))


def key_of(store: Store, part: str) -> str:
    return next(entry.key for entry in store.list() if part in entry.key)


def go_on(tmp_path: Path) -> engine.Outcome:
    return engine.run(place(tmp_path, sweep(grid=GRID)))


def foreign(data: bytes) -> bytes:
    text = zstandard.ZstdDecompressor().decompress(data)
    return zstandard.ZstdCompressor().compress(text.replace(b'"schema":1', b'"schema":99'))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-7],
        lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
        foreign,
        lambda data: zstandard.ZstdCompressor().compress(bytes(600 * 2**20)),
        lambda data: b"PAR1 something else",
    ],
    ids=["empty", "truncated", "bit flipped", "foreign schema", "a bomb", "no segment"],
)
def test_what_a_damaged_segment_held_is_measured_again(
    at: engine.Workplace, calm: list[dict[str, object]], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    segment = key_of(at.home, "results/")
    held = parse_segments([("x", at.home.get(segment))]).table.num_rows
    at.home.put(segment, damage(at.home.get(segment)))
    again = go_on(tmp_path)
    assert again.measured == held
    assert numbers(again) == calm
    (finding,) = verify(at.root, at.prefix, Silent()).findings
    assert (finding.kind, finding.key) == ("damaged", f"{at.prefix}/{segment}")


def test_a_result_that_is_no_number_is_no_number(
    at: engine.Workplace, calm: list[dict[str, object]], tmp_path: Path
) -> None:
    """A foreign writer's row of the sweep's own slot, earlier than ours and without numbers."""
    slot = str(calm[0]["slot"])
    row = ok(slot, math.nan, started_at="2020-01-01")
    at.home.put("results/x/00000/y-0.csv.zst", encode_segment({**HEADER, "round": 0}, [row]))
    outcome = go_on(tmp_path)
    mine = next(row for row in outcome.table.to_pylist() if row["slot"] == slot)
    assert mine["throughput_images_s"] is None
    assert mine["rank"] is None
    assert merge.counts(outcome.table)["ok"] == 8
    assert verify(at.root, at.prefix, Silent()).proven


@pytest.mark.parametrize(
    "part", ["results/", "plans/", "current.json", "/table.parquet", "/table.csv", "raw/"]
)
def test_whatever_somebody_deletes_the_next_run_makes_good(
    at: engine.Workplace, calm: list[dict[str, object]], tmp_path: Path, part: str
) -> None:
    at.home.delete([key_of(at.home, part)])
    assert numbers(go_on(tmp_path)) == calm
    assert verify(at.root, at.prefix, Silent()).proven


def test_a_deleted_artefact_is_said_with_what_to_do_and_that_helps(
    at: engine.Workplace, calm: list[dict[str, object]], tmp_path: Path
) -> None:
    """Its manifest is there, its file is not: nothing half is used."""
    binary = key_of(at.root, "programqpc.bin")
    at.root.delete([binary])
    again = sweep(grid=GRID, run="2")
    with pytest.raises(StoreError, match="is missing") as caught:
        engine.run(place(tmp_path, again))
    base = binary.rsplit("/", 2)[0]
    assert f"Delete {at.root.url}/{base}/" in caught.value.remedy
    at.root.delete([entry.key for entry in at.root.list(base)])
    assert numbers(engine.run(place(tmp_path, again))) == calm


class Changing(Store):
    """A store in which, after each listing of results, somebody deletes one and adds another one."""

    def __init__(self, store: Store) -> None:
        super().__init__(store._place, store._prefix)

    def list(self, prefix: str = "") -> builtins.list[Listed]:
        listed = super().list(prefix)
        if prefix == "results":
            key = listed[1].key
            data = self.get(key)
            self.delete([key])
            self.put(key.replace(".csv", "7.csv"), data)
        return listed


def test_a_listing_that_changes_while_results_are_read(
    at: engine.Workplace, calm: list[dict[str, object]], tmp_path: Path
) -> None:
    results = engine.read_results(Changing(at.home))
    assert list(results.damaged.values()) == ["was deleted while the results were read"]
    assert len(results.segments) == len(at.home.list("results")) - 1
    # What was moved there is not lost to the next reader.
    assert numbers(go_on(tmp_path)) == calm
    assert verify(at.root, at.prefix, Silent()).proven


def test_a_clock_that_jumps_an_hour_and_back_changes_no_number_and_no_duration(
    at: engine.Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = numbers(engine.run(place(tmp_path / "calm", sweep(grid=GRID))))
    jumps = iter([1, -1, 0] * 100)

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return super().now(tz) + datetime.timedelta(hours=next(jumps))

    monkeypatch.setattr(measure.datetime, "datetime", Jumping)
    outcome = engine.run(at)
    assert numbers(outcome) == calm
    assert all(0 <= seconds < 60 for seconds in outcome.table["device_s"].to_pylist())
    monkeypatch.undo()
    assert go_on(tmp_path).measured == 0
    assert verify(at.root, at.prefix, Silent()).proven
