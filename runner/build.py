"""Export and compile: every graph and binary that tasks need, made once and published. Two of the five functions.

An answer is the artefact in the store, or the verdict on a point that can't have one. Whoever needs
the files fetches them. `building` makes both in threads while cards measure; pods ask for one stage.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from runner import artifacts, keys, labels, process, schedule, scratch
from runner.artifacts import Artifact
from runner.backends import Exporter, ExportReport
from runner.errors import Infeasible, Interrupted, PointFailed
from runner.keys import ExportRequest
from runner.ordering import Lot
from runner.overlap import Board
from runner.plan import Task
from runner.result import KILLED
from runner.schedule import COMPILE, EXPORT, Build, Builders, Schedule
from runner.suspects import made_alone
from runner.workplace import Workplace

Answer = Artifact | PointFailed
Answers = Mapping[str, Answer]


@dataclass(frozen=True)
class Made:
    """What exporting and compiling made of tasks: answers by the tasks' `export` and `binary`."""

    exports: Answers
    binaries: Answers


def export(place: Workplace, requests: Mapping[str, ExportRequest]) -> Answers:
    """Every graph that is asked for, one after the other; `requests` by what they are called in flight. Raises what
    would stop all of them."""
    place.reporter.stage(EXPORT, len(requests), 0.0)
    answers: dict[str, Answer] = {}
    with place.backend.open_exporter() as exporter:
        for item in place.attempt.in_order(list(requests), str):
            request = requests[item]
            verdict = place.attempt.verdict(item, EXPORT)
            answer, outcome = (
                _said(verdict) if verdict else _tried(partial(_graph, place, exporter, item, request))
            )
            place.reporter.step(EXPORT, request.source, outcome, 0.0)
            answers[request.id] = answer
    return answers


def compile_(
    place: Workplace,
    tasks: Sequence[Task],
    exports: Answers,
    keep: Callable[[Answers], None] = lambda answers: None,
) -> Made:
    """Every binary the tasks need, as many at once as the host has cores for, one where an attempt died before.
    Where memory ran out, one tries again alone. A task whose graph could not be made gets none. `keep` gets what is
    made so far before something is tried that an attempt died with."""
    if place.backend.COMPILES_ON == "target":
        return Made(exports, {})
    count = 1 if place.attempt.careful else schedule.builders(place.cores, 0, may_share=False).at_once
    alone = made_alone(tasks, place.attempt.seen)
    board = Board(Schedule([Lot(0, tasks)], (), Builders(count, beside=False), alone=alone))
    with building(place, tasks, board, count, exports, keep) as made:
        board.wait_for_builds()
    return made


@contextlib.contextmanager
def building(
    place: Workplace,
    tasks: Sequence[Task],
    board: Board[Task],
    at_once: int,
    exports: Answers | None = None,
    keep: Callable[[Answers], None] = lambda answers: None,
) -> Iterator[Made]:
    """Make what the board says, in `at_once` threads, while the body runs; what is made so far is in the answers.
    `exports` are those that others made; without them they are made here.

    What would stop all of them ends the body's waiting and is raised at its end. The end of the body, or an error
    in it, ends the tools that are running.
    """
    with contextlib.ExitStack() as stack:
        builder = _Builder(place, tasks, board, keep)
        if exports is None:
            builder.exporter = stack.enter_context(place.backend.open_exporter())
            place.reporter.stage(EXPORT, len({task.export for task in tasks}), 0.0)
        else:
            builder.exports.update(exports)
        if place.backend.COMPILES_ON == "host":
            place.reporter.stage(COMPILE, len(builder.by_binary), 0.0)
        most = min(at_once, len(builder.by_export) + len(builder.by_binary))
        try:
            builder.begin(most)
            yield Made(builder.exports, builder.binaries)
            builder.end_unasked()
        except BaseException as error:
            builder.end()
            if builder.error and isinstance(error, Interrupted):
                # It is why: a builder's error interrupts what is measured.
                raise builder.error from error
            raise
        if builder.error:
            raise builder.error


class _Builder:
    """What the threads that build share."""

    def __init__(
        self, place: Workplace, tasks: Sequence[Task], board: Board[Task], keep: Callable[[Answers], None]
    ) -> None:
        self._place, self._board, self._keep = place, board, keep
        self.by_binary = {task.binary: task for task in reversed(tasks) if task.binary}
        self.by_export = {task.export: task for task in reversed(tasks)}
        self.exporter: Exporter | None = None
        self.exports: dict[str, Answer] = {}
        self.binaries: dict[str, Answer] = {}
        self.error: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def begin(self, count: int) -> None:
        for number in range(count):
            thread = threading.Thread(target=self.work, name=f"build-{number}")
            thread.start()
            self._threads.append(thread)

    def work(self) -> None:
        """In each thread: build until there is nothing more; what would stop all ends everybody's work."""
        try:
            while (build := self._board.next_build()) is not None:
                last_word = self._built(build)
                there = isinstance(self.exports.get(build.id), Artifact)
                self._board.built(build, there=there, again_alone=not last_word)
        except BaseException as error:
            if self.error is None and not (isinstance(error, Interrupted) and process.stopping.is_set()):
                self.error = error
            process.stopping.set()
            self._board.stop()

    def end(self) -> None:
        """End the tools that are running, and the threads."""
        self._board.stop()
        if self._board.building:
            process.stopping.set()
        for thread in self._threads:
            thread.join()

    def end_unasked(self) -> None:
        """The same where nobody asked this process to end, as when no card is left to build for."""
        asked = process.stopping.is_set()
        self.end()
        if not asked and not self.error:
            process.stopping.clear()

    def _built(self, build: Build) -> bool:
        """Whether the answer is the last word: where memory ran out, only that of a build that was alone."""
        make: Callable[[], tuple[Artifact, str]]
        if build.kind == EXPORT:
            if self.exporter is None:
                return True
            task, answers = self.by_export[build.id], self.exports
            item, label = task.export_item, task.export_request.source
            make = partial(_graph, self._place, self.exporter, item, task.export_request)
        else:
            task, answers = self.by_binary[build.id], self.binaries
            item, label = task.binary_item, labels.binary_label(task.model, task.cell)
            graph = self.exports[task.export]
            assert isinstance(graph, Artifact)
            make = partial(_binary, self._place, task, graph)
            if build.alone:
                self._keep(self.binaries)
        verdict = self._place.attempt.verdict(item, build.kind)
        answer, outcome = _said(verdict) if verdict else _tried(make)
        if verdict is None and isinstance(answer, PointFailed) and answer.reason == KILLED:
            if not build.alone:
                return False
            answer, outcome = _said(_memory_verdict(answer))
        answers[build.id] = answer
        self._place.reporter.step(build.kind, label, outcome, 0.0)
        return True


def requests_of(tasks: Sequence[Task]) -> dict[str, ExportRequest]:
    """What the tasks need exported, each once, by what it is called in flight."""
    return {task.export_item: task.export_request for task in tasks}


def report_of(graph: Artifact) -> ExportReport:
    """What its exporter said of a graph."""
    facts: dict[str, Any] = dict(graph.facts)
    facts["output_shape"] = tuple(facts["output_shape"])
    return ExportReport(**facts)


def _tried(make: Callable[[], tuple[Artifact, str]]) -> tuple[Answer, str]:
    """What came of making something, and the same in a few words."""
    try:
        return make()
    except PointFailed as failure:
        return _said(failure)


def _said(failure: PointFailed) -> tuple[PointFailed, str]:
    return failure, f"{failure.verdict}: {failure.reason}"


def _graph(place: Workplace, exporter: Exporter, item: str, request: ExportRequest) -> tuple[Artifact, str]:
    key = keys.export_key(request, exporter.versions(request))
    found = artifacts.find(place.root, EXPORT, key)
    if found is not None:
        return found, "already there"
    with scratch.temporary() as folder:
        with place.attempt.flying(item):
            report = exporter.export(request, folder)
        made = artifacts.publish(place.root, EXPORT, key, folder, asdict(report), place.cache)
        return made, "exported"


def _memory_verdict(failure: PointFailed) -> Infeasible:
    """Of this host, not of the graph: not remembered beside the binary's key."""
    return Infeasible(
        failure.stage,
        "host-memory",
        f"{failure.message}, also when nothing was built beside it",
        remedy=failure.remedy or f"{failure.stage} on a host with more memory",
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
            with place.attempt.flying(task.binary_item):
                place.backend.compile(task.cell, local / "model.onnx", folder)
            made = artifacts.publish(place.root, "binary", key, folder, asdict(task.cell), place.cache)
            return made, "compiled"
    except Infeasible as verdict:
        facts = {"reason": verdict.reason, "message": verdict.message}
        artifacts.record_infeasible(place.root, "binary", key, facts)
        raise
