"""A sweep's table as it is by now, and its way through a log."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from runner import snapshot, tables
from runner.cli import cli
from runner.errors import StoreError
from runner.store import Store, open_store

SWEEP = """\
apiVersion: aicsweep.dev/v1alpha1
kind: Sweep
metadata: {name: it}
spec: {backend: fake, models: [resnet50], objectives: [best-throughput], grid: {cores: [1, 2], instances: [1]}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Store:
    """Of a sweep that was run to its end: two slots."""
    (tmp_path / "it.yaml").write_text(SWEEP)
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "it.yaml"), "--store", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    return open_store(str(tmp_path / "store/sweeps/local/default/it/1"))


def _digest(home: Store) -> str:
    (found,) = (item.key for item in home.list("plans"))
    return Path(found).stem


def test_what_no_merge_has_seen_is_in_it(home: Store, tmp_path: Path) -> None:
    assert snapshot.take(home).slots == (2, 2)
    (tmp_path / "store/sweeps/local/default/it/1/current.json").unlink()
    assert snapshot.take(home, _digest(home)).slots == (2, 2)
    with pytest.raises(StoreError, match="no published table"):
        snapshot.take(home)
    for segment in home.list("results"):
        (tmp_path / "store/sweeps/local/default/it/1" / segment.key).unlink()
    now = snapshot.take(home, _digest(home))
    assert (now.slots, now.published) == ((0, 2), False)
    assert set(now.table["status"].to_pylist()) == {"missing"}


def test_a_plan_that_is_not_there(home: Store) -> None:
    with pytest.raises(StoreError, match="holds no plan 000000000000"):
        snapshot.take(home, "0" * 32)


def test_through_a_log_with_other_lines_in_it(home: Store) -> None:
    done = CliRunner().invoke(cli, ["snapshot", home.url])
    lines = ["a warning of a library", *done.output.splitlines(), "another"]
    found = snapshot.from_lines(lines)
    assert found.published
    assert found.table.equals(tables.read_current(home)[0])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lines: lines[1:], "no beginning"),
        (lambda lines: lines[:-1], "cut short"),
        (lambda lines: [*lines[:2], *lines[3:]], "digest|damaged"),
        (lambda lines: [*lines[:2], "!" + lines[2][1:], *lines[3:]], "damaged"),
    ],
)
def test_half_a_table_is_none(home: Store, spoil: object, words: str) -> None:
    lines = list(snapshot.to_lines(snapshot.take(home)))
    with pytest.raises(ValueError, match=words):
        snapshot.from_lines(spoil(lines))  # type: ignore[operator]
