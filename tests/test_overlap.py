"""What the engine does at the same time: a fake whose compiles and measurements wait for what a test says."""

import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner import devices, engine, inflight, merge, process, transfer
from runner.backends import Device, fake
from runner.cells import Cell
from runner.errors import PointFailed, StoreError
from runner.store import Store, open_store
from tests.samples import place, sweep

MANY_CORES, FEW_CORES = 48, 2
# Long enough for a busy host; waited for only where a test fails.
LIMIT_S = 60.0
GRID = {"cores": [1, 2, 7], "instances": [1, 2], "batchSize": [1, 4]}


class Paced:
    """The fake; a test is told of each step before it is done, and may hold it up."""

    def __init__(self, told: Callable[[str, Any], None], compiles_on: str = "host") -> None:
        self.COMPILES_ON = compiles_on
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(fake, name)

    def compile(self, cell: Cell, graph: Path, folder: Path) -> None:
        self._told("compile", cell)
        fake.compile(cell, graph, folder)
        self._told("compiled", cell)

    @contextmanager
    def open_exporter(self) -> Iterator[Any]:
        with fake.open_exporter() as exporter:
            yield _Before(exporter, "export", self._told)

    @contextmanager
    def open_bench(self, device: Device) -> Iterator[Any]:
        self._told("open", device)
        with fake.open_bench(device) as bench:
            yield _Before(bench, "measure", self._told)


class _Before:
    def __init__(self, inner: Any, method: str, told: Callable[[str, Any], None]) -> None:
        self._inner, self._method, self._told = inner, method, told

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._inner, name)

        def call(what: Any, *rest: Any) -> Any:
            self._told(name, what)
            return getattr(self._inner, name)(what, *rest)

        return call


class Journal:
    """Steps as they were told, by their threads."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Any]] = []

    def __call__(self, step: str, what: Any) -> None:
        self.steps.append((step, what))

    def names(self) -> list[str]:
        return [step for step, _ in self.steps]


def at(folder: Path, told: Callable[[str, Any], None], cores: int, compiles_on: str = "host", **spec: Any):
    wanted = sweep(**{"grid": GRID, **spec})
    return replace(place(folder, wanted), backend=Paced(told, compiles_on), cores=cores)


def waited(event: threading.Event) -> None:
    assert event.wait(LIMIT_S), "the other never came: they do not run at the same time"


def test_a_lot_begins_while_others_compile(tmp_path):
    """The last compile ends only after something was measured."""
    journal, measured = Journal(), threading.Event()

    def told(step: str, what: Any) -> None:
        journal(step, what)
        if step == "measure":
            measured.set()
        if step == "compile" and journal.names().count("compile") == 12:
            waited(measured)

    here, said = at(tmp_path, told, MANY_CORES), []
    here.reporter.say = said.append
    outcome = engine.run(here)
    assert merge.counts(outcome.table)["ok"] == 24
    assert any(text.startswith("devices were at work ") for text in said)
    assert {json.loads(text)["beside"] for text in outcome.table["tools"].to_pylist()} == {
        "up to 15 compilers"
    }


@pytest.mark.parametrize(
    ("cores", "spec"), [(FEW_CORES, {}), (MANY_CORES, {"measure": {"neighbours": "host-idle"}})]
)
def test_where_cores_do_not_suffice_or_the_host_is_to_be_idle_nothing_runs_beside(tmp_path, cores, spec):
    journal = Journal()
    outcome = engine.run(at(tmp_path, journal, cores, **spec))
    names = journal.names()
    assert names.index("open") > max(n for n, name in enumerate(names) if name == "compiled")
    assert names.count("compiled") == 12
    assert not any("beside" in text for text in outcome.table["tools"].to_pylist())


def test_where_the_cpu_is_the_device_exports_run_in_pairs_and_end_before_anything_is_measured(tmp_path):
    journal, pair = Journal(), threading.Barrier(2)

    def told(step: str, what: Any) -> None:
        journal(step, what)
        if step == "export":
            pair.wait(LIMIT_S)

    engine.run(at(tmp_path, told, MANY_CORES, "target"))
    assert journal.names()[:3] == ["export", "export", "open"]
    assert "compile" not in journal.names()


def test_a_card_is_not_taken_before_its_first_binary_is_there(tmp_path):
    opened, early = threading.Event(), []

    def told(step: str, what: Any) -> None:
        if step == "open":
            opened.set()
        if step == "compile" and not early:
            # Time enough for a card that does not wait.
            early.append(opened.wait(0.5))

    engine.run(at(tmp_path, told, 5))
    assert early == [False]


def test_what_stops_a_builder_ends_the_run_and_what_was_measured_is_kept(tmp_path):
    measured = threading.Event()

    def told(step: str, what: Any) -> None:
        if step == "measure":
            measured.set()
        if step == "compile" and what.cores == 7:
            waited(measured)
            raise StoreError("the store is gone")

    here = at(tmp_path, told, MANY_CORES)
    with pytest.raises(StoreError, match="the store is gone"):
        engine.run(here)
    process.stopping.clear()
    kept = engine.read_results(here.home).table.num_rows
    assert kept > 0
    assert engine.run(place(tmp_path, here.sweep)).measured == 24 - kept


def test_exports_that_memory_does_not_suffice_for_together_are_made_one_at_a_time(tmp_path):
    pair, alone = threading.Barrier(2), set()

    def told(step: str, what: Any) -> None:
        if step == "export" and what.source not in alone:
            alone.add(what.source)
            pair.wait(LIMIT_S)
            raise PointFailed("export", "killed", "a worker was killed")

    outcome = engine.run(at(tmp_path, told, MANY_CORES))
    assert merge.counts(outcome.table)["ok"] == 24 == outcome.measured


def test_what_a_run_died_with_is_made_alone_and_what_needs_it_measured_together(tmp_path):
    """An export of 6 slots and a binary of 2: not 8 exporters and 8 benches, and nothing measured beside them."""
    journal = Journal()
    here = at(tmp_path, journal, MANY_CORES, grid={"cores": [1, 2, 7], "instances": [1, 2]})
    tasks = engine.plan_round(here, 1, {}).tasks()
    export = next(task.export for task in tasks if task.model == "resnet50")
    suspect = next(task for task in tasks if task.model == "mobilenet_v2" and task.cell.cores == 2)
    for item in (export, suspect.binary):
        here.home.put_new(f"inflight/{inflight.HERE}/{item}/w-dead", b"")
    outcome = engine.run(here)
    assert merge.counts(outcome.table)["ok"] == 12 == outcome.measured
    names = journal.names()
    # In the first turn 4 slots of two binaries; in the second all is made before the first is measured.
    assert names.count("open") == 2
    second = len(names) - names[::-1].index("open")
    assert names[:second].count("measure") == 4
    assert names[:second].count("compiled") == 6
    began = next(
        n for n, (step, what) in enumerate(journal.steps) if (step, what) == ("compile", suspect.cell)
    )
    assert names[began + 1] == "compiled"
    assert names[:began].count("compile") == names[:began].count("compiled") == 5


def test_a_thread_that_cannot_begin_ends_those_that_have(tmp_path, monkeypatch):
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "build-1":
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run(at(tmp_path, lambda step, what: process.check_stopping(), MANY_CORES))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("build-")]


def test_what_is_measured_next_is_fetched_meanwhile_across_lots(tmp_path, monkeypatch):
    """On a host that has nothing in its cache only the first job's graph and binary are waited for."""
    download, by = transfer.download, Counter()

    def told(step: str, what: Any) -> None:
        if step == "open":
            # What compilers needed here.
            shutil.rmtree(here.cache / "export")
            by.clear()

    def counted(store: Store, key: str, path: Path) -> None:
        by["background" if threading.current_thread().name.startswith("fetch") else "waited for"] += 1
        download(store, key, path)

    monkeypatch.setattr(transfer, "download", counted)
    here = replace(at(tmp_path, told, FEW_CORES, limits={"lotMinutes": 1}), root=open_store("memory:"))
    outcome = engine.run(here)
    assert outcome.plan.lots > 2
    assert merge.counts(outcome.table)["ok"] == 24
    assert by == {"waited for": 2, "background": 12}


def test_an_interruption_ends_what_compiles(tmp_path):
    """A compiler that would run for ever does not keep Ctrl-C from ending the run."""
    compiling = threading.Event()

    def told(step: str, what: Any) -> None:
        if step == "compile" and what.cores == 7:
            compiling.set()
            process.pause(3600)
        if step == "measure":
            waited(compiling)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(at(tmp_path, told, MANY_CORES))


def test_when_all_of_the_canary_failed_nothing_further_is_compiled(tmp_path, monkeypatch):
    failing = {"stage": "run", "reason": "garbage"}
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"faults": [failing]}))
    journal, canary = Journal(), threading.Event()

    def told(step: str, what: Any) -> None:
        journal(step, what)
        if step == "compile" and journal.names().count("compile") > 20:
            # The others wait until it is known that there is no hope.
            canary.wait(LIMIT_S)

    here = at(tmp_path, told, 5, models=["resnets"], limits={"lotMinutes": 5})
    step = here.reporter.step

    def seen(stage: str, *rest: Any) -> None:
        step(stage, *rest)
        if stage == "measure" and journal.names().count("measure") == 14:
            canary.set()

    here.reporter.step = seen
    outcome = engine.run(here)
    assert "garbage" in outcome.trouble
    assert journal.names().count("compile") < 7 * 6


def test_no_device_left_ends_the_compiling(tmp_path, monkeypatch):
    """A compiler that would go on for long is ended, and the run goes on to its table."""
    broken = {"stage": "run", "reason": "device-error", "verdict": "infrastructure"}
    monkeypatch.setenv(fake.SETTINGS, json.dumps({"faults": [broken]}))
    journal, compiling = Journal(), threading.Event()

    def told(step: str, what: Any) -> None:
        journal(step, what)
        if step == "compile" and journal.names().count("compile") > 6:
            compiling.set()
            waited(process.stopping)
            process.check_stopping()
        if step == "measure" and journal.names().count("measure") == devices.STRIKES:
            waited(compiling)

    outcome = engine.run(at(tmp_path, told, 5))
    assert "no device is left" in outcome.trouble
    assert outcome.measured == devices.STRIKES
    assert not process.stopping.is_set()
