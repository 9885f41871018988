"""One sweep on one machine: plan, export, compile, measure, merge, in rounds until nothing is wanted.

The five functions are the ones a cluster's pods call. Everything of the sweep that lasts is in the
store; resume is planning anew. Deciding is elsewhere (`cells`, `plan`, `merge`), this module acts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from runner import artifacts, cells, keys, lut, merge, plan, tables
from runner.artifacts import Artifact
from runner.backends import Backend, ExportReport
from runner.catalogue import ONNX, Model
from runner.errors import BadInput, Infeasible, PointFailed, Problem
from runner.keys import ExportRequest
from runner.measure import Recorder, measure_task, unmeasured
from runner.plan import Plan, Task
from runner.spec import Sweep
from runner.store import Store


class Reporter(Protocol):
    """Where progress goes: a terminal, plain lines, or nowhere."""

    def stage(self, name: str, total: int, estimate_s: float) -> None:
        """A stage begins; `total` steps, about `estimate_s` seconds (0: unknown)."""

    def step(self, label: str, outcome: str, estimate_s: float) -> None:
        """One step of it ended; `estimate_s` of the stage's estimate is done."""

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
    lut_table: lut.LutTable = field(default_factory=lut.shipped)

    @property
    def home(self) -> Store:
        return self.root.at(self.prefix)


@dataclass(frozen=True)
class Outcome:
    """What a run ended with."""

    table: pa.Table
    table_folder: str
    plan: Plan
    measured: int
    reused: int


@dataclass(frozen=True)
class Graph:
    """An exported graph at hand: artefact in the store, local folder, and the exporter's report."""

    artifact: Artifact
    folder: Path
    report: ExportReport


def run(place: Workplace) -> Outcome:
    """Work until every slot has a final result or the rounds are used up. Raises what stops a sweep."""
    place.root.check()
    measured = 0
    for number in range(1, place.sweep.spec.limits.rounds + 1):
        results = read_results(place.home)
        current = plan_round(place, number, merge.past_of(results))
        if number == 1:
            reused = len(set(current.table["slot"].to_pylist()) & set(results.table["slot"].to_pylist()))
        tasks = current.tasks()
        if not tasks:
            break
        place.home.put_new(f"plans/{current.digest}.parquet", current.data)
        place.reporter.say(
            f"round {number}: {len(tasks)} slots in {current.lots} lots, plan {current.digest[:12]}"
        )
        graphs, broken = export(place, tasks)
        binaries, unbuilt = compile_(place, tasks, graphs)
        measured += measure(place, current, graphs, binaries, {**broken, **unbuilt})
    table, folder = merge_(place, current)
    return Outcome(table, folder, current, measured, reused)


def models_at_hand(sweep: Sweep) -> list[Model]:
    """The sweep's models, each ONNX file with the digest of its content for a source. Raises BadInput."""
    models: list[Model] = []
    problems: list[Problem] = []
    for model in cells.models_of(sweep.spec):
        if model.kind != ONNX:
            models.append(model)
            continue
        path = Path(model.source.removeprefix(f"{ONNX}:")).expanduser()
        try:
            digest = keys.digest_bytes(path.read_bytes())
        except OSError as error:
            problems.append(
                Problem("spec.models", f"{model.name}: {error.strerror}", "a path of this machine")
            )
            continue
        models.append(replace(model, source=f"{ONNX}:{digest}", location=str(path.resolve())))
    if problems:
        raise BadInput(problems)
    return models


def make_plan(
    sweep: Sweep,
    backend: Backend,
    table: lut.LutTable,
    number: int = 1,
    past: Mapping[str, plan.Past] | None = None,
) -> Plan:
    """The plan of a round on this machine. Raises BadInput for whatever is over a limit or can't fit."""
    capacity = backend.capacity(sweep.spec.hardware)
    target = cells.Target(
        backend.NAME, backend.PARAMETERS, backend.PRECISIONS, capacity.cores, capacity.reason
    )
    problems = over_limits(sweep, target)
    if problems:
        raise BadInput(problems)
    made = plan.make_plan(
        sweep, models_at_hand(sweep), table, target, backend, round_number=number, past=past
    )
    problems = over_budget(sweep, made)
    if problems:
        raise BadInput(problems)
    return made


def over_limits(sweep: Sweep, target: cells.Target) -> list[Problem]:
    """Values that no point can have on this hardware, and too many points; found before expanding."""
    problems = []
    if "hardware" in target.parameters:
        for index, cores in enumerate(sweep.spec.grid.cores or ()):
            if cores > target.cores:
                where = f"spec.grid.cores[{index}]"
                problems.append(
                    Problem(where, f"{cores} cores, there are {target.cores} {target.cores_reason}")
                )
    count, limit = cells.count_points(sweep.spec), sweep.spec.limits.max_cells
    if count > limit:
        most = 1_000_000
        remedy = (
            f"limits: {{maxCells: {count}}} would do"
            if count <= most
            else "shorten an axis; no more than 1,000,000"
        )
        problems.append(
            Problem("spec.grid", f"asks for {count:,} cells, limits.maxCells is {limit:,}", remedy)
        )
    return problems


def over_budget(sweep: Sweep, made: Plan) -> list[Problem]:
    """The plan's device time against `limits.maxDeviceHours`."""
    hours = sum(task_seconds(made)) / 3600
    limit = sweep.spec.limits.max_device_hours
    if hours <= limit:
        return []
    remedy = f"limits: {{maxDeviceHours: {hours + 0.05:.1f}}} would do, or fewer points, seconds or repeats"
    return [
        Problem("spec.limits.maxDeviceHours", f"is {limit:g}, about {hours:.1f} hours are needed", remedy)
    ]


def task_seconds(made: Plan) -> list[float]:
    """Estimated device seconds of every task."""
    import pyarrow.compute as pc

    seconds: list[float] = made.table.filter(pc.is_valid(made.table["lot"]))["estimate_s"].to_pylist()
    return seconds


def plan_round(place: Workplace, number: int, past: Mapping[str, plan.Past]) -> Plan:
    return make_plan(place.sweep, place.backend, place.lut_table, number, past)


def export(place: Workplace, tasks: Sequence[Task]) -> tuple[dict[str, Graph], dict[str, PointFailed]]:
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
    place: Workplace, tasks: Sequence[Task], graphs: Mapping[str, Graph]
) -> tuple[dict[str, tuple[str, Path]], dict[str, PointFailed]]:
    """Every binary the tasks need as (key, folder) by slot; slots whose binary can't be made, with the verdict."""
    backend = place.backend
    if backend.COMPILES_ON == "target":
        return {}, {}
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
    binaries: dict[str, tuple[str, Path]] = {}
    unbuilt: dict[str, PointFailed] = {}
    place.reporter.stage("compile", len(wanted), 0.0)
    for key, (task, slots) in wanted.items():
        try:
            folder, outcome = _binary(place, key, task, graphs[task.cell.export_request.id])
            binaries.update((slot, (key, folder)) for slot in slots)
        except PointFailed as failure:
            unbuilt.update((slot, failure) for slot in slots)
            outcome = f"{failure.verdict}: {failure.reason}"
        place.reporter.step(task.model, outcome, 0.0)
    return binaries, unbuilt


def _binary(place: Workplace, key: str, task: Task, graph: Graph) -> tuple[Path, str]:
    known = artifacts.find_infeasible(place.root, "binary", key)
    if known is not None:
        raise Infeasible("compile", str(known["reason"]), str(known["message"]))
    artifact = artifacts.find(place.root, "binary", key)
    outcome = "already there"
    if artifact is None:
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


def measure(
    place: Workplace,
    current: Plan,
    graphs: Mapping[str, Graph],
    binaries: Mapping[str, tuple[str, Path]],
    failures: Mapping[str, PointFailed],
) -> int:
    """Measure every lot, recording results as they come; returns how many. `failures` are by export or slot."""
    tasks = current.tasks()
    place.reporter.stage("measure", len(tasks), sum(task.estimate_s for task in tasks))
    count = 0
    with place.backend.open_bench() as bench:
        for number in range(current.lots):
            with Recorder(place.home, place.backend, current, number) as recorder:
                for task in current.lot(number):
                    export_id = task.cell.export_request.id
                    failure = failures.get(export_id) or failures.get(task.slot)
                    if failure is not None:
                        result = unmeasured(task, failure)
                    else:
                        graph = graphs[export_id]
                        key, folder = binaries.get(task.slot, ("", None))
                        result, samples = measure_task(bench, task, graph.folder, folder, graph.report)
                        result = replace(
                            result,
                            export_key=graph.artifact.key,
                            graph_digest=graph.artifact.digest,
                            binary_key=key,
                        )
                        recorder.keep_samples(task.slot, samples)
                    recorder.add(result)
                    count += 1
                    place.reporter.step(
                        tables.cell_label(task.model, task.cell), tables.outcome(result), task.estimate_s
                    )
    return count


def read_results(home: Store) -> merge.Results:
    """All results of the sweep's run that the store holds."""
    found = [entry.key for entry in home.list("results") if entry.key.endswith(".ndjson.zst")]
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
