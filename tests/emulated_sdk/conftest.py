"""Fixtures of the emulator's own tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulated_sdk import Card
from tests.emulated_sdk.desk import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Style 1.21, a Standard and a Pro card."""
    made = make_desk(tmp_path / "desk", cards=[Card(), Card(sku="PCIe Pro")])
    yield made
    made.sdk.end_all()


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for 2 cores and batch 4, compiled once."""
    desk = make_desk(tmp_path_factory.mktemp("binary") / "desk")
    assert desk.compile().returncode == 0
    return desk.folder / "binary"


@pytest.fixture
def compiled(desk: Desk, binary: Path) -> Desk:
    """The desk with a copy of that program."""
    shutil.copytree(binary, desk.folder / "binary")
    return desk
