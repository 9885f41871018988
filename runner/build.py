"""Export and compile: every graph and binary that tasks need, made once and published. Two of the five functions.

An answer is the artefact in the store, or the verdict on a point that can't have one. Whoever needs
the files fetches them. `building` makes both in threads while cards measure; pods ask for one stage.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runner import artifacts, keys, labels, process, schedule, scratch
from runner.artifacts import Artifact
from runner.backends import Exporter, ExportReport
from runner.errors import Infeasible, Interrupted, PointFailed
from runner.keys import ExportRequest
from runner.overlap import Board
from runner.plan import Task
from runner.result import KILLED
from runner.schedule import EXPORT, Build, Builders, Lot, Schedule
from runner.workplace import Workplace

Answer = Artifact | PointFailed
Answers = Mapping[str, Answer]


@dataclass(frozen=True)
class Made:
    """What exporting and compiling made of tasks: answers by the tasks' `export` and `binary`."""

    exports: Answers
    binaries: Answers


def export(place: Workplace, requests: Sequence[ExportRequest]) -> Answers:
    """Every graph that is asked for. Raises what would stop all of them."""
    place.reporter.stage(EXPORT, len(requests), 0.0)
    with place.backend.open_exporter() as exporter:
        return {request.id: _graph(place, exporter, request) for request in requests}


def compile_(place: Workplace, tasks: Sequence[Task], exports: Answers, at_once: int | None = None) -> Made:
    """Every binary the tasks need, `at_once` of them (by default as many as the host has cores for).
    Where memory ran out, one tries again alone. A task whose graph could not be made gets none."""
    if place.backend.COMPILES_ON == "target":
        return Made(exports, {})
    count = at_once or schedule.builders(place.cores, 0, may_share=False).at_once
    board = Board(Schedule([Lot(0, tasks)], (), Builders(count, beside=False)))
    with building(place, tasks, board, count, exports) as made:
        board.wait_for_builds()
    return made


@contextlib.contextmanager
def building(
    place: Workplace, tasks: Sequence[Task], board: Board[Task], at_once: int, exports: Answers | None = None
) -> Iterator[Made]:
    """Make what the board says, in `at_once` threads, while the body runs; what is made so far is in the answers.
    `exports` are those that others made; without them they are made here.

    What would stop all of them ends the body's waiting and is raised at its end. An error in the body ends
    the tools that are running.
    """
    with contextlib.ExitStack() as stack:
        builder = _Builder(place, tasks, board)
        if exports is None:
            builder.exporter = stack.enter_context(place.backend.open_exporter())
            place.reporter.stage(EXPORT, len({task.export for task in tasks}), 0.0)
        else:
            builder.exports.update(exports)
        if place.backend.COMPILES_ON == "host":
            place.reporter.stage("compile", len(builder.by_binary), 0.0)
        most = min(at_once, len({task.export for task in tasks}) + len(builder.by_binary))
        threads = [threading.Thread(target=builder.work, name=f"build-{n}") for n in range(most)]
        for thread in threads:
            thread.start()
        try:
            yield Made(builder.exports, builder.binaries)
        except BaseException as error:
            builder.end(threads)
            if builder.error and isinstance(error, Interrupted):
                # It is why: a builder's error interrupts what is measured.
                raise builder.error from error
            raise
        for thread in threads:
            thread.join()
        if builder.error:
            raise builder.error


class _Builder:
    """What the threads that build share."""

    def __init__(self, place: Workplace, tasks: Sequence[Task], board: Board[Task]) -> None:
        self._place, self._board = place, board
        self.by_binary = {task.binary: task for task in reversed(tasks) if task.binary}
        self._requests = {task.export: task for task in reversed(tasks)}
        self.exporter: Exporter | None = None
        self.exports: dict[str, Answer] = {}
        self.binaries: dict[str, Answer] = {}
        self.error: BaseException | None = None

    def work(self) -> None:
        """In each thread: build until there is nothing more; what would stop all ends everybody's work."""
        try:
            while (build := self._board.next_build()) is not None:
                if build.kind == EXPORT:
                    there = isinstance(self._exported(build.id), Artifact)
                    self._board.built(build, there=there)
                elif (verdict := self._place.attempt.verdict(build.id, "compile")) is not None:
                    self.binaries[build.id] = verdict
                    self._board.built(build)
                else:
                    answer = self._compiled(build)
                    again = isinstance(answer, PointFailed) and answer.reason == KILLED
                    self._board.built(build, again_alone=again)
        except BaseException as error:
            if self.error is None and not (isinstance(error, Interrupted) and process.stopping.is_set()):
                self.error = error
            process.stopping.set()
            self._board.stop()

    def end(self, threads: Sequence[threading.Thread]) -> None:
        """End the tools that are running, and the threads."""
        self._board.stop()
        if self._board.building:
            process.stopping.set()
        for thread in threads:
            thread.join()

    def _exported(self, name: str) -> Answer | None:
        if self.exporter is not None:
            request, verdict = self._requests[name].export_request, self._place.attempt.verdict(name, EXPORT)
            self.exports[name] = verdict or _graph(self._place, self.exporter, request)
        return self.exports.get(name)

    def _compiled(self, build: Build) -> Answer:
        """The answer; one that memory ran out for is not its last word unless it was alone."""
        task = self.by_binary[build.id]
        graph = self.exports[task.export]
        assert isinstance(graph, Artifact)
        answer: Answer
        try:
            answer, outcome = _binary(self._place, task, graph)
        except PointFailed as failure:
            answer, outcome = failure, f"{failure.verdict}: {failure.reason}"
            if failure.reason == KILLED:
                if not build.alone:
                    return failure
                answer, outcome = _memory_verdict(failure), "infeasible: host-memory"
        self.binaries[build.id] = answer
        self._place.reporter.step("compile", labels.binary_label(task.model, task.cell), outcome, 0.0)
        return answer


def requests_of(tasks: Sequence[Task]) -> list[ExportRequest]:
    """What the tasks need exported, each once."""
    first = {task.export: task for task in reversed(tasks)}
    return [task.export_request for task in reversed(first.values())]


def report_of(graph: Artifact) -> ExportReport:
    """What its exporter said of a graph."""
    facts: dict[str, Any] = dict(graph.facts)
    facts["output_shape"] = tuple(facts["output_shape"])
    return ExportReport(**facts)


def _graph(place: Workplace, exporter: Exporter, request: ExportRequest) -> Answer:
    answer: Answer
    try:
        answer, outcome = _exported(place, exporter, request)
    except PointFailed as failure:
        answer, outcome = failure, f"{failure.verdict}: {failure.reason}"
    place.reporter.step(EXPORT, request.source, outcome, 0.0)
    return answer


def _exported(place: Workplace, exporter: Exporter, request: ExportRequest) -> tuple[Artifact, str]:
    key = keys.export_key(request, exporter.versions(request))
    found = artifacts.find(place.root, EXPORT, key)
    if found is not None:
        return found, "already there"
    with scratch.temporary() as folder:
        with place.attempt.flying(request.id):
            report = exporter.export(request, folder)
        made = artifacts.publish(place.root, EXPORT, key, folder, asdict(report), place.cache)
        return made, "exported"


def _memory_verdict(failure: PointFailed) -> Infeasible:
    """Of this host, not of the graph: not remembered beside the binary's key."""
    return Infeasible(
        "compile",
        "host-memory",
        f"{failure.message}, also when it was the only compiler",
        remedy=failure.remedy or "compile on a host with more memory",
        log_tail=failure.log_tail,
    )


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
        with scratch.temporary() as folder:
            with place.attempt.flying(task.binary):
                place.backend.compile(task.cell, local / "model.onnx", folder)
            made = artifacts.publish(place.root, "binary", key, folder, asdict(task.cell), place.cache)
            return made, "compiled"
    except Infeasible as verdict:
        facts = {"reason": verdict.reason, "message": verdict.message}
        artifacts.record_infeasible(place.root, "binary", key, facts)
        raise
