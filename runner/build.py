"""Export and compile: every graph and binary that tasks need, made once and published. Two of the five functions.

An answer is the artefact in the store, or the verdict on a point that can't have one. Whoever needs
the files fetches them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner import artifacts, keys, labels, process
from runner.artifacts import Artifact
from runner.backends import Exporter, ExportReport
from runner.errors import Infeasible, PointFailed
from runner.keys import ExportRequest
from runner.plan import Task
from runner.result import KILLED
from runner.workplace import Workplace

# A compiler keeps two to three cores busy (the vendor's logs: 16 at once on 48 cores).
CORES_PER_COMPILER = 3

Answers = Mapping[str, Artifact | PointFailed]


@dataclass(frozen=True)
class Made:
    """What exporting and compiling made of tasks: answers by the tasks' `export` and `binary`."""

    exports: Answers
    binaries: Answers


def export(place: Workplace, requests: Sequence[ExportRequest]) -> Answers:
    """Every graph that is asked for. Raises what would stop all of them."""
    answers: dict[str, Artifact | PointFailed] = {}
    place.reporter.stage("export", len(requests), 0.0)
    with place.backend.open_exporter() as exporter:
        for request in requests:
            try:
                answers[request.id], outcome = _graph(place, exporter, request)
            except PointFailed as failure:
                answers[request.id], outcome = failure, f"{failure.verdict}: {failure.reason}"
            place.reporter.step(request.source, outcome, 0.0)
    return answers


def requests_of(tasks: Sequence[Task]) -> list[ExportRequest]:
    """What the tasks need exported, each once."""
    first = {task.export: task for task in reversed(tasks)}
    return [task.export_request for task in reversed(first.values())]


def report_of(graph: Artifact) -> ExportReport:
    """What its exporter said of a graph."""
    facts: dict[str, Any] = dict(graph.facts)
    facts["output_shape"] = tuple(facts["output_shape"])
    return ExportReport(**facts)


def _graph(place: Workplace, exporter: Exporter, request: ExportRequest) -> tuple[Artifact, str]:
    key = keys.export_key(request, exporter.versions(request))
    found = artifacts.find(place.root, "export", key)
    if found is not None:
        return found, "already there"
    with tempfile.TemporaryDirectory(prefix="aicsweep-export-") as folder:
        report = exporter.export(request, Path(folder))
        return artifacts.publish(place.root, "export", key, Path(folder), asdict(report)), "exported"


def compile_(place: Workplace, tasks: Sequence[Task], exports: Answers, at_once: int | None = None) -> Made:
    """Every binary the tasks need, `at_once` of them (by default as many as the host has cores for).
    Where memory ran out, one tries again alone. A task whose graph could not be made gets none."""
    if place.backend.COMPILES_ON == "target":
        return Made(exports, {})
    wanted: dict[str, tuple[Task, Artifact]] = {}
    for task in tasks:
        graph = exports.get(task.export)
        if isinstance(graph, Artifact):
            wanted.setdefault(task.binary, (task, graph))
    place.reporter.stage("compile", len(wanted), 0.0)

    def attempt(binary: str, *, alone: bool) -> Artifact | PointFailed:
        task, graph = wanted[binary]
        label = labels.binary_label(task.model, task.cell)
        try:
            artifact, outcome = _binary(place, task, graph)
        except PointFailed as failure:
            if failure.reason != KILLED:
                place.reporter.step(label, f"{failure.verdict}: {failure.reason}", 0.0)
                return failure
            if not alone:
                # Not yet its last word: it shared the host's memory.
                return failure
            place.reporter.step(label, "infeasible: host-memory", 0.0)
            return _memory_verdict(failure)
        place.reporter.step(label, outcome, 0.0)
        return artifact

    if at_once is None:
        at_once = max(1, (os.cpu_count() or 1) // CORES_PER_COMPILER)
    found = dict(
        zip(wanted, _in_threads(lambda binary: attempt(binary, alone=False), wanted, at_once), strict=True)
    )
    for binary, answer in found.items():
        if isinstance(answer, PointFailed) and answer.reason == KILLED:
            found[binary] = attempt(binary, alone=True)
    return Made(exports, found)


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


def _binary(place: Workplace, task: Task, graph: Artifact) -> tuple[Artifact, str]:
    key = keys.binary_key(
        graph_digest=graph.digest,
        flags=place.backend.compile_flags(task.cell),
        compiler=place.backend.compiler_version(),
        hardware="aic100",
    )
    found = artifacts.find(place.root, "binary", key)
    if found is not None:
        return found, "already there"
    known = None if task.anew else artifacts.find_infeasible(place.root, "binary", key)
    if known is not None:
        raise Infeasible("compile", str(known["reason"]), str(known["message"]))
    local = artifacts.fetch(place.root, graph, place.cache)
    try:
        with tempfile.TemporaryDirectory(prefix="aicsweep-compile-") as folder:
            place.backend.compile(task.cell, local / "model.onnx", Path(folder))
            made = artifacts.publish(place.root, "binary", key, Path(folder), asdict(task.cell))
            return made, "compiled"
    except Infeasible as verdict:
        facts = {"reason": verdict.reason, "message": verdict.message}
        artifacts.record_infeasible(place.root, "binary", key, facts)
        raise
