"""A store with a finished sweep of several segments, to be damaged; and what verify says of it then."""

from __future__ import annotations

from pathlib import Path

import orjson

from runner import engine, tables
from runner.proof import Proof
from runner.store import Store
from runner.stored import sweep_folders
from runner.verify import verify
from tests.samples import Silent, place, sweep

GRID = {"cores": [1, 2, 7], "instances": [1, 2]}


def made(folder: Path) -> dict[str, bytes]:
    """Every object of such a store, by key."""
    at = place(folder, sweep(grid=GRID, limits={"lotMinutes": 8}))
    engine.run(at)
    return {entry.key: at.root.get(entry.key) for entry in at.root.list()}


def proof_of(root: Store) -> Proof:
    (prefix,) = sweep_folders(root)
    return verify(root, prefix, Silent())


def said(root: Store) -> set[tuple[str, str]]:
    """(kind, key) of all findings."""
    return {(finding.kind, finding.key) for finding in proof_of(root).findings}


def first(root: Store, part: str) -> str:
    return next(entry.key for entry in root.list() if part in entry.key)


def flip(root: Store, key: str, at: int) -> None:
    data = bytearray(root.get(key))
    data[at] ^= 1
    root.put(key, bytes(data))


def remove(root: Store, key: str) -> None:
    path = root.local_path(key)
    assert path is not None
    path.unlink()


def merge_again(root: Store) -> None:
    (prefix,) = sweep_folders(root)
    home = root.at(prefix)
    current = orjson.loads(home.get(tables.CURRENT))
    engine.merge_(home, engine.stored_plan(home, current["plan"]))
