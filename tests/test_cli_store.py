"""What `aicsweep gc` says of a removal that ends midway."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from runner import cli_store, collect, engine
from runner.errors import StoreError
from runner.store import Store, open_store
from tests.samples import place, sweep


@pytest.fixture
def root(tmp_path: Path) -> Store:
    """A store of artefacts whose sweep is let go."""
    at = place(tmp_path, sweep(grid={"cores": [1, 2], "instances": [1]}))
    engine.run(at)
    at.root.delete(entry.key for entry in at.root.list(at.prefix))
    return at.root


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_removal_that_fails_midway_says_what_is_gone(
    root: Store, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(collect, "BATCH", 1)
    before, delete, calls = manifests(root), Store.delete, []

    def failing(store: Store, some: Iterable[str]) -> None:
        calls.append(store)
        # Two of each artefact: its manifest, then its files.
        if len(calls) > 4:
            raise StoreError("the store is away")
        delete(store, some)

    monkeypatch.setattr(Store, "delete", failing)
    with pytest.raises(StoreError, match="is away"):
        cli_store.gc([root.url, "--older-than", "0s", "--yes", "-o", output], standalone_mode=False)
    gone = before - manifests(root)
    assert len(gone) == 2
    said = capsys.readouterr().out
    if output == "json":
        told = json.loads(said)
        assert told["removed"]
        assert {item["name"] for item in told["garbage"]} == gone
    else:
        assert {line.split()[-1] for line in said.splitlines()[:-1]} == gone
        assert "2 things" in said.splitlines()[-1]


def manifests(root: Store) -> set[str]:
    """Folders of the artefacts that are whole."""
    keys = [entry.key for entry in open_store(root.url).list("artifacts")]
    return {key.rpartition("/")[0] for key in keys if key.endswith("/manifest.json")}
