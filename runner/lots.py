"""Measure lots: what is measured on which device, in which order, and when to stop. One of the five functions.

`devices` drives the devices, `measure` turns one task into a result and keeps it; this is between them.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from runner import devices, labels, process, spool
from runner.artifacts import Artifact
from runner.backends import Bench, Device
from runner.build import Made, report_of
from runner.errors import Infrastructure, Interrupted, PointFailed
from runner.measure import Recorder, Windows, measure_task, not_obtained, unmeasured
from runner.ordering import Lot
from runner.overlap import Board
from runner.plan import Plan, Task
from runner.result import FAILED, INFEASIBLE, OK, Result
from runner.schedule import Schedule
from runner.shelf import Shelf
from runner.spec import EVERY_DEVICE
from runner.spool import Spool
from runner.workplace import Workplace

NOT_EXPORTED, NOT_COMPILED, DEVICE_ABSENT = "not-exported", "not-compiled", "device-absent"
MEASURE = "measure"

Lots = Mapping[int, Sequence[Task]]


@dataclass
class Tally:
    """What came of measuring: results by (status, stage), words on the first that is neither ok nor
    infeasible, and the devices given up with the reason."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_bad: str = ""
    given_up: Mapping[Device, str] = field(default_factory=dict)
    # Seconds that devices were at work, summed.
    busy_s: float = 0.0
    # Each task of the canary failed, and nothing went well: the rest was not tried.
    hopeless: bool = False

    def count(self, *statuses: str) -> int:
        """Results of these statuses."""
        return sum(number for (status, _), number in self.counts.items() if status in statuses)

    def add(self, other: Tally) -> None:
        """What came of measuring further lots."""
        self.counts += other.counts
        self.first_bad = self.first_bad or other.first_bad
        self.given_up = {**self.given_up, **other.given_up}
        self.busy_s += other.busy_s
        self.hopeless = self.hopeless or other.hopeless


class Canary:
    """Slots of the first lots, one of every network: once each has failed and nothing went well, nothing will.
    One for all turns of a round."""

    def __init__(self, slots: Iterable[str] = ()) -> None:
        self._left = set(slots)
        self._hope = not self._left

    def saw(self, slot: str, status: str) -> None:
        self._left.discard(slot)
        # A device's fault is no verdict on what is measured.
        self._hope = self._hope or status != FAILED

    @property
    def hopeless(self) -> bool:
        return not self._left and not self._hope


def measure(
    place: Workplace,
    current: Plan,
    made: Made,
    lots: Lots,
    *,
    canary: Canary | None = None,
    board: Board[Task] | None = None,
    beside: str = "",
) -> Tally:
    """Measure lots on the devices at hand, all of them side by side, recording results as they come.

    The `board` says what may begin while things are still `made`; without one all is. `beside` says on each row
    what else ran. Everything stops as soon as the `canary` says that there is no hope. Once it returns all results
    are in the store. Raises StoreError, Interrupted.
    """
    if board is None:
        board = Board(Schedule(as_scheduled(place, lots), cards(place)))
    with spool.opened(place.home, place.reporter.say) as spooled:
        work = _Work(place, current, made, lots, canary or Canary(), board, spooled)
        if beside:
            work.tools["beside"] = beside
        if place.sweep.spec.placement == EVERY_DEVICE:
            work.record_absent()
        work.tally.given_up = devices.measure_all(place.backend, place.devices, work)
    return work.tally


def cards(place: Workplace) -> list[str]:
    """The devices at hand, as a schedule calls them."""
    return [device.id for device in place.devices]


def as_scheduled(place: Workplace, lots: Lots, urgent: int = 0) -> list[Lot[Task]]:
    """The lots as a schedule takes them: what only one device may measure is a lot of its own. The first `urgent`
    numbers come before the others."""
    if place.sweep.spec.placement != EVERY_DEVICE:
        return [Lot(number, tasks, urgent=number < urgent) for number, tasks in lots.items()]
    here = {place.target_of(device): device.id for device in place.devices}
    found = []
    for number, tasks in lots.items():
        own: dict[str, list[Task]] = defaultdict(list)
        for task in tasks:
            own[task.target].append(task)
        found += [Lot(number, own[target], here[target], number < urgent) for target in own if target in here]
    return found


class _Work:
    """The state that the devices' threads share."""

    def __init__(
        self,
        place: Workplace,
        current: Plan,
        made: Made,
        lots: Lots,
        canary: Canary,
        board: Board[Task],
        spooled: Spool | None,
    ) -> None:
        self.place, self.current, self.made, self.lots = place, current, made, lots
        self.attempt, self.canary = place.attempt, canary
        self.tally = Tally()
        self.tools = dict(place.backend.provenance())
        self._board, self._spool = board, spooled
        self._lock = threading.Lock()
        self._side_by_side = len(place.devices)
        total, seconds = 0, 0.0
        for tasks in lots.values():
            total += len(tasks)
            seconds += sum(task.estimate_s for task in tasks)
        place.reporter.stage(MEASURE, total, seconds / self._side_by_side)

    def wait(self, device: Device) -> bool:
        return self._board.wait_for_job(device.id)

    def give_up(self, device: Device) -> None:
        self._board.give_up(device.id)

    def stop(self) -> None:
        self._board.stop()

    def on(self, bench: Bench, device: Device) -> Generator[Result, None, None]:
        """Measure what the board has for a device; each result is recorded before it is given."""
        with Shelf(self.place, self.made) as shelf:
            found = self._board.next_job(device.id)
            while found is not None:
                number, _ = found
                with self._recorder(number) as recorder:
                    while found is not None and found[0] == number:
                        if process.stopping.is_set():
                            raise Interrupted("asked to stop")
                        task = found[1]
                        shelf.ahead(self._board.following(device.id))
                        for result in self._results(bench, task, recorder, shelf):
                            recorder.add(result)
                            self._count(task, result)
                            yield result
                        found = self._board.next_job(device.id, recorder.flush_if_due)
                if process.stopping.is_set():
                    raise Interrupted("asked to stop")

    def record_absent(self) -> None:
        """Slots of devices that are not here are missing, and their rows say so."""
        here = {self.place.target_of(device) for device in self.place.devices}
        for number, tasks in self.lots.items():
            absent = [task for task in tasks if task.target not in here]
            if not absent:
                continue
            with self._recorder(number) as recorder:
                for task in absent:
                    message = (
                        f"{task.target} is not there; {len(here)} devices are: {', '.join(sorted(here))}"
                    )
                    error = Infrastructure(message, reason=DEVICE_ABSENT)
                    result = not_obtained(task, error, "run")
                    recorder.add(result)
                    self._count(task, result)

    def _recorder(self, number: int) -> Recorder:
        place = self.place
        keeper = self._spool or place.home
        return Recorder(keeper, self.current, number, place.writer, self.tools, place.node)

    def _results(self, bench: Bench, task: Task, recorder: Recorder, shelf: Shelf) -> Sequence[Result]:
        """The task's result; where pods or runs died with it, one for each of them."""
        verdict = self.attempt.verdict(task.item, "run")
        if verdict is not None:
            return [unmeasured(task, verdict)] * self.attempt.deaths(task.item)
        if self.attempt.careful:
            # What is done must be in the store before a marker says that the next is in flight.
            recorder.flush()
            if self._spool:
                self._spool.settle()
        else:
            recorder.flush_if_due()
            if self._spool and self._spool.is_full:
                # Nothing is in memory alone while one waits.
                recorder.flush()
                self._spool.wait_for_room()
        result, windows = _measured(bench, task, self.made, shelf, self.attempt.flying(task.item))
        recorder.keep_samples(task.slot, windows)
        return [result]

    def _count(self, task: Task, result: Result) -> None:
        tally = self.tally
        with self._lock:
            tally.counts[result.status, result.stage] += 1
            tally.busy_s += result.device_s
            if not tally.first_bad and result.status not in (OK, INFEASIBLE):
                tally.first_bad = f"{result.stage} {result.reason}: {result.message}"
            self.canary.saw(task.slot, result.status)
            tally.hopeless = self.canary.hopeless
        if tally.hopeless:
            self._board.stop()
        label = labels.cell_label(task.model, task.cell)
        self.place.reporter.step(MEASURE, label, labels.outcome(result), task.estimate_s / self._side_by_side)


def _measured(
    bench: Bench, task: Task, made: Made, shelf: Shelf, flying: AbstractContextManager[None]
) -> tuple[Result, Windows]:
    """Result and windows of a task that is `flying` while it is on the device: who is killed while files are
    fetched was not killed by the task."""
    graph = made.exports.get(task.export)
    binary = made.binaries.get(task.binary) if task.binary else None
    for answer in (graph, binary):
        if isinstance(answer, PointFailed):
            return unmeasured(task, answer), ()
    if not isinstance(graph, Artifact):
        return not_obtained(task, _no_answer(NOT_EXPORTED), "export"), ()
    if task.binary and binary is None:
        return not_obtained(task, _no_answer(NOT_COMPILED), "compile"), ()
    compiled = shelf.folder(binary) if isinstance(binary, Artifact) else None
    artifacts = {
        "export_key": graph.key,
        "graph_digest": graph.digest,
        "binary_key": binary.key if isinstance(binary, Artifact) else "",
    }
    folder, report = shelf.folder(graph), report_of(graph)
    with flying:
        return measure_task(bench, task, folder, compiled, report, artifacts)


def _no_answer(reason: str) -> Infrastructure:
    stage = reason.removeprefix("not-")
    return Infrastructure(f"nothing {stage}: its pod ended without an answer", reason=reason)
