"""Fixtures of the AIC100 tests: a graph, programs compiled once, a bench on emulated cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner import process_tree
from runner.backends import Device, Measurement, qaic
from runner.backends.qaic import bench, device, flags, gate, sdk
from runner.cells import Cell
from tests import emulated_sdk
from tests.backends.qaic.networks import REPORT, write_graph

Program = Callable[[Cell], Path]
Measure = Callable[..., Measurement]

# What waits in earnest for minutes waits here for moments.
QUICK = bench.Limits(
    query_s=20.0,
    run_margin_s=30.0,
    neighbours_s=20.0,
    gate=gate.Limits(boot_s=0.5, free_s=0.5, cool_s=0.5, settle_s=0.5, poll_s=0.01, settle_poll_s=0.01),
)


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICSWEEP_LOCKS", str(tmp_path / "locks"))
    # Tools that ignore SIGTERM are not waited for as long as in earnest.
    monkeypatch.setattr(process_tree, "GRACE_S", 0.5)


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph"))


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory, graph: Path) -> Program:
    """Compiles a cell, each set of flags once for all tests."""
    emulated = emulated_sdk.install(tmp_path_factory.mktemp("compiler") / "sdk")
    known: dict[str, Path] = {}

    def compiled(cell: Cell) -> Path:
        key = " ".join(flags.compile_flags(cell))
        if key not in known:
            folder = tmp_path_factory.mktemp("program")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("AICSWEEP_SDK", str(emulated.root))
                qaic.compile(cell, graph, folder)
            known[key] = folder
        return known[key]

    return compiled


@pytest.fixture
def emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[emulated_sdk.Sdk]:
    """A host with one Standard card and SDK 1.21, which the backend finds."""
    installed = emulated_sdk.install(tmp_path / "sdk", style="1.21")
    monkeypatch.setenv("AICSWEEP_SDK", str(installed.root))
    yield installed
    installed.end_all()


@pytest.fixture
def measure(tmp_path: Path, emulated: emulated_sdk.Sdk, graph: Path, program: Program) -> Measure:
    """Measure a cell on card `qid` of the emulated host."""

    def call(cell: Cell, qid: int = 0, limits: bench.Limits = QUICK) -> Measurement:
        found = sdk.find(emulated.root)
        serial = next(card.serial for card in device.query(found) if card.qid == qid)
        folder = tmp_path / f"bench-{qid}"
        folder.mkdir(exist_ok=True)
        on = bench.CardBench(found, Device(str(qid), serial), folder, limits)
        return on.measure(cell, graph, program(cell), REPORT)

    return call
