"""One sweep on one machine: plan, export, compile, measure, merge, in rounds until nothing is wanted.

The five functions are the ones a cluster's pods call. Everything of the sweep that lasts is in the
store; resume is planning anew. Deciding is elsewhere (`admission`, `cells`, `plan`, `merge`), this
module acts; `devices` hands lots to cards.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from runner import admission, artifacts, devices, keys, lut, merge, plan, process, tables
from runner.artifacts import Artifact
from runner.backends import Backend, Bench, Device, ExportReport
from runner.errors import Infeasible, PointFailed
from runner.keys import ExportRequest
from runner.measure import Recorder, measure_task, unmeasured
from runner.plan import Plan, Task
from runner.result import SEGMENT_SUFFIX, Result
from runner.spec import Sweep
from runner.store import Store

# A compiler keeps two to three cores busy (the vendor's logs: 16 at once on 48 cores).
CORES_PER_COMPILER = 3


class Reporter(Protocol):
    """Where progress goes: a terminal, plain lines, or nowhere. Called from several threads."""

    def stage(self, name: str, total: int, estimate_s: float) -> None:
        """A stage begins; `total` steps, about `estimate_s` seconds (0: unknown)."""

    def step(self, label: str, outcome: str, estimate_s: float) -> None:
        """One step of it ended, and with it `estimate_s` of the stage's estimate."""

    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class Workplace:
    """Where a sweep is worked on: `root` is the store, `prefix` the sweep's folder in it, `cache` local."""

    sweep: Sweep
    backend: Backend
    root: Store
    prefix: str
    cache: Path
    reporter: Reporter
    devices: Sequence[Device]
    lut_table: lut.LutTable = field(default_factory=lut.shipped)

    @property
    def home(self) -> Store:
        return self.root.at(self.prefix)


@dataclass(frozen=True)
class Outcome:
    """What a run ended with. `trouble`: why it ended before every slot had been tried."""

    table: pa.Table
    table_folder: str
    plan: Plan
    measured: int
    reused: int
    trouble: str = ""


@dataclass(frozen=True)
class Graph:
    """An exported graph at hand: artefact in the store, local folder, and the exporter's report."""

    artifact: Artifact
    folder: Path
    report: ExportReport


@dataclass(frozen=True)
class Made:
    """What exporting and compiling made of tasks: graphs by export request, binaries (key, folder) by slot,
    and the verdict on each request or slot that got none."""

    graphs: Mapping[str, Graph]
    binaries: Mapping[str, tuple[str, Path]]
    failures: Mapping[str, PointFailed]


def run(place: Workplace) -> Outcome:
    """Work until every slot has a final result or the rounds are used up. Raises what stops a sweep."""
    place.root.check()
    rounds = place.sweep.spec.limits.rounds
    past = merge.past_of(read_results(place.home))
    measured, reused, trouble = 0, 0, ""
    for number in range(1, rounds + 1):
        current = plan_round(place, number, past)
        if number == 1:
            reused = len(set(current.table["slot"].to_pylist()) & past.keys())
        if not current.lots:
            break
        place.home.put_new(f"plans/{current.digest}.parquet", current.data)
        tasks = current.tasks()
        place.reporter.say(
            f"round {number}: {len(tasks)} slots in {current.lots} lots, plan {current.digest[:12]}"
        )
        made = compile_(place, tasks, *export(place, tasks))
        done, given_up = measure(place, current, made)
        measured += done
        place = replace(place, devices=[device for device in place.devices if device not in given_up])
        for device, reason in given_up.items():
            place.reporter.say(
                f"device {device.id} is given up, {devices.STRIKES} failures in a row: {reason}"
            )
        if not place.devices:
            trouble = "no device is left to measure on"
            break
        past = merge.past_of(read_results(place.home))
        if not any(plan.still_wanted(past.get(task.slot), rounds) for task in tasks):
            break
    table, folder = merge_(place, current)
    return Outcome(table, folder, current, measured, reused, trouble)


def plan_round(place: Workplace, number: int, past: Mapping[str, plan.Past]) -> Plan:
    return admission.make_plan(place.sweep, place.backend, place.lut_table, number, past)


def export(place: Workplace, tasks: Sequence[Task]) -> tuple[Mapping[str, Graph], Mapping[str, PointFailed]]:
    """Every graph the tasks need, by export request; those that can't be made, with their verdict."""
    requests: dict[str, ExportRequest] = {}
    for task in tasks:
        request = replace(task.cell.export_request, location=task.location)
        requests.setdefault(request.id, request)
    graphs: dict[str, Graph] = {}
    broken: dict[str, PointFailed] = {}
    place.reporter.stage("export", len(requests), 0.0)
    with place.backend.open_exporter() as exporter:
        for request in requests.values():
            key = keys.export_key(request, exporter.versions(request))
            artifact = artifacts.find(place.root, "export", key)
            outcome = "already there"
            if artifact is None:
                try:
                    with tempfile.TemporaryDirectory(prefix="aicsweep-export-") as folder:
                        report = exporter.export(request, Path(folder))
                        artifact = artifacts.publish(place.root, "export", key, Path(folder), asdict(report))
                    outcome = "exported"
                except PointFailed as failure:
                    broken[request.id] = failure
                    place.reporter.step(request.source, f"{failure.verdict}: {failure.reason}", 0.0)
                    continue
            local = artifacts.fetch(place.root, artifact, place.cache)
            graphs[request.id] = Graph(artifact, local, _report(artifact))
            place.reporter.step(request.source, outcome, 0.0)
    return graphs, broken


def compile_(
    place: Workplace, tasks: Sequence[Task], graphs: Mapping[str, Graph], broken: Mapping[str, PointFailed]
) -> Made:
    """Every binary the tasks need, several at once. Where memory ran out, one tries again alone."""
    backend = place.backend
    if backend.COMPILES_ON == "target":
        return Made(graphs, {}, broken)
    wanted: dict[str, tuple[Task, list[str]]] = {}
    for task in tasks:
        graph = graphs.get(task.cell.export_request.id)
        if graph is not None:
            key = keys.binary_key(
                graph_digest=graph.artifact.digest,
                flags=backend.compile_flags(task.cell),
                compiler=backend.compiler_version(),
                hardware="aic100",
            )
            wanted.setdefault(key, (task, []))[1].append(task.slot)
    place.reporter.stage("compile", len(wanted), 0.0)

    def attempt(key: str, *, alone: bool) -> Path | PointFailed:
        task, _ = wanted[key]
        label = tables.binary_label(task.model, task.cell)
        try:
            folder, outcome = _binary(place, key, task, graphs[task.cell.export_request.id])
        except PointFailed as failure:
            if failure.reason != "killed":
                place.reporter.step(label, f"{failure.verdict}: {failure.reason}", 0.0)
                return failure
            if not alone:
                # Not yet its last word: it shared the host's memory.
                return failure
            place.reporter.step(label, "infeasible: host-memory", 0.0)
            return _memory_verdict(failure)
        place.reporter.step(label, outcome, 0.0)
        return folder

    at_once = max(1, (os.cpu_count() or 1) // CORES_PER_COMPILER)
    found = dict(
        zip(wanted, _in_threads(lambda key: attempt(key, alone=False), wanted, at_once), strict=True)
    )
    for key, answer in found.items():
        if isinstance(answer, PointFailed) and answer.reason == "killed":
            found[key] = attempt(key, alone=True)
    binaries: dict[str, tuple[str, Path]] = {}
    failures = dict(broken)
    for key, answer in found.items():
        for slot in wanted[key][1]:
            if isinstance(answer, Path):
                binaries[slot] = (key, answer)
            else:
                failures[slot] = answer
    return Made(graphs, binaries, failures)


def _memory_verdict(failure: PointFailed) -> Infeasible:
    """Of this host, not of the graph: not remembered beside the binary's key."""
    return Infeasible(
        "compile",
        "host-memory",
        f"{failure.message}, also when it was the only compiler",
        remedy=failure.remedy or "compile on a host with more memory",
        log_tail=failure.log_tail,
    )


def _in_threads(work: Callable[[str], Any], items: Mapping[str, object], at_once: int) -> list[Any]:
    """`work` of each item, in order; an interruption ends the tools that are running."""
    if at_once == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(at_once, thread_name_prefix="compile") as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            process.stopping.set()
            pool.shutdown(cancel_futures=True)
            raise


def _binary(place: Workplace, key: str, task: Task, graph: Graph) -> tuple[Path, str]:
    artifact = artifacts.find(place.root, "binary", key)
    outcome = "already there"
    if artifact is None:
        known = artifacts.find_infeasible(place.root, "binary", key)
        if known is not None:
            raise Infeasible("compile", str(known["reason"]), str(known["message"]))
        try:
            with tempfile.TemporaryDirectory(prefix="aicsweep-compile-") as folder:
                place.backend.compile(task.cell, graph.folder / "model.onnx", Path(folder))
                artifact = artifacts.publish(place.root, "binary", key, Path(folder), asdict(task.cell))
            outcome = "compiled"
        except Infeasible as verdict:
            facts = {"reason": verdict.reason, "message": verdict.message}
            artifacts.record_infeasible(place.root, "binary", key, facts)
            raise
    return artifacts.fetch(place.root, artifact, place.cache), outcome


def measure(place: Workplace, current: Plan, made: Made) -> tuple[int, Mapping[Device, str]]:
    """Measure every lot on the devices at hand, recording results as they come.

    Returns how many slots got a result, and the devices given up with the reason.
    """
    counted = itertools.count()
    side_by_side = len(place.devices)

    def lot(bench: Bench, number: int) -> Generator[Result, None, None]:
        with Recorder(place.home, place.backend, current, number) as recorder:
            for task in current.lot(number):
                result = _measured(bench, task, made, recorder)
                recorder.add(result)
                next(counted)
                label = tables.cell_label(task.model, task.cell)
                place.reporter.step(label, tables.outcome(result), task.estimate_s / side_by_side)
                yield result

    tasks = current.tasks()
    place.reporter.stage("measure", len(tasks), sum(task.estimate_s for task in tasks) / side_by_side)
    given_up = devices.measure_lots(place.backend, place.devices, range(current.lots), lot)
    return next(counted), given_up


def _measured(bench: Bench, task: Task, made: Made, recorder: Recorder) -> Result:
    export_id = task.cell.export_request.id
    failure = made.failures.get(export_id) or made.failures.get(task.slot)
    if failure is not None:
        return unmeasured(task, failure)
    graph = made.graphs[export_id]
    key, folder = made.binaries.get(task.slot, ("", None))
    result, samples = measure_task(bench, task, graph.folder, folder, graph.report)
    recorder.keep_samples(task.slot, samples)
    return replace(result, export_key=graph.artifact.key, graph_digest=graph.artifact.digest, binary_key=key)


def read_results(home: Store) -> merge.Results:
    """All results of the sweep's run that the store holds."""
    found = [entry.key for entry in home.list("results") if entry.key.endswith(SEGMENT_SUFFIX)]
    return merge.read_results(home.get_many(found))


def merge_(place: Workplace, current: Plan) -> tuple[pa.Table, str]:
    """Merge what the store holds into the table of `current` and make it the sweep's current one."""
    home = place.home
    # A plan with nothing left to do was not put before.
    home.put_new(f"plans/{current.digest}.parquet", current.data)
    results = read_results(home)
    table = merge.merge(current, results)
    return table, tables.publish(home, current, results, table, place.sweep)


def _report(artifact: Artifact) -> ExportReport:
    facts: dict[str, Any] = dict(artifact.facts)
    facts["output_shape"] = tuple(facts["output_shape"])
    return ExportReport(**facts)
