"""One forking process, and undisturbed runs, for all tests in here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crashes.runs import LARGER, Calm, Runs, Scene, forking, undisturbed


@pytest.fixture(scope="session")
def runs() -> Iterator[Runs]:
    with forking() as found:
        yield found


@pytest.fixture(scope="session")
def larger(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Two models, six slots."""
    return undisturbed(Scene(runs, tmp_path_factory.mktemp("larger") / "scene", **LARGER))


@pytest.fixture(scope="session")
def calm(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """One model, two slots."""
    return undisturbed(Scene(runs, tmp_path_factory.mktemp("calm") / "scene"))
