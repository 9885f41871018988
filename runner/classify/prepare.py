"""All that can be known before any work: table, backend, card, and for `--run-only` the files of an earlier run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runner import lut
from runner.backends import Capacity, ExportReport, host_cpu
from runner.backends.qaic import compile_, device, gate
from runner.backends.qaic import sdk as sdks
from runner.backends.qaic.device import Card
from runner.backends.qaic.sdk import Sdk
from runner.classify import fit, parameters, records
from runner.classify.given import Given
from runner.classify.layout import Layout, layout
from runner.classify.options import ONNXRUNTIME, QAIC
from runner.classify.parameters import Parameters
from runner.classify.printed import note
from runner.errors import AicsweepError, BadInput, Infrastructure, Problem
from runner.lut import LutTable


@dataclass(frozen=True)
class Prepared:
    """What will be done and where; `sdk` and `card` are None where this machine's CPU is measured. `report` is
    that of the graph that lies there already, for a run that exports none."""

    given: Given
    parameters: Parameters
    at: Layout
    sdk: Sdk | None
    card: Card | None
    report: ExportReport | None

    @property
    def backend(self) -> str:
        return ONNXRUNTIME if self.sdk is None else QAIC


def prepare(given: Given, start: Path) -> Prepared:
    """Raises BadInput with everything that can't work, else Infrastructure where SDK or card can't be used now."""
    row = table(given, start).get((given.model_name, parameters.objective_of(given)))
    backend, found, unready = _backend(given)
    chosen = parameters.resolve(given, row)
    capacity: Capacity | None = None
    card: Card | None = None
    if backend == ONNXRUNTIME:
        capacity = host_cpu.usable().capacity
        chosen = _on_cpu(chosen, given, capacity)
    elif found is not None:
        card, unready = _card(found, chosen, run_only=given.run_only)
        if card is not None and card.nsp_total is not None:
            capacity = Capacity(card.nsp_total, f"NSPs of card {card.qid}")
    at = layout(chosen, start, parameters.precision(backend))
    problems = fit.problems(chosen, given, row, capacity, compiles=backend == QAIC)
    if given.run_only:
        problems += _earlier(at, chosen, compiled=backend == QAIC)
    if isinstance(unready, BadInput):
        problems += unready.problems
    if problems:
        raise BadInput(problems)
    if unready:
        raise unready
    report = records.report(at, chosen) if given.run_only else None
    return Prepared(given, chosen, at, found, card, report)


def table(given: Given, start: Path) -> LutTable:
    """The look-up table: --lut, else the file of that name in the start directory, else the one shipped.

    One that was named has to be right; of the other only a warning is given.
    """
    if given.lut is not None:
        return lut.read(given.lut)
    local = start / lut.FILE_NAME
    if os.path.lexists(local):
        try:
            return lut.read(local)
        except BadInput as error:
            note(f"the look-up table that ships with aicsweep is used, not the one here: {error}")
    return lut.shipped()


def _backend(given: Given) -> tuple[str, Sdk | None, AicsweepError | None]:
    """What measures, the SDK if that needs one, and why it can't be used."""
    if given.backend == ONNXRUNTIME:
        return ONNXRUNTIME, None, None
    try:
        return QAIC, sdks.find(given.sdk), None
    except Infrastructure as error:
        # An SDK that was asked for is never silently replaced by another device.
        if given.backend == QAIC or given.sdk or os.environ.get(sdks.ENVIRONMENT):
            return QAIC, None, error
        note(f"{error.message}: ONNX Runtime measures this machine's CPU instead (--backend {ONNXRUNTIME})")
        return ONNXRUNTIME, None, None


def _on_cpu(chosen: Parameters, given: Given, capacity: Capacity) -> Parameters:
    lowered = parameters.on_cpu(chosen, given, capacity.cores)
    if lowered != chosen:
        note(
            f"{chosen.cores} cores x {chosen.instances} instances are a card's; this CPU has {capacity.cores}:"
            f" {lowered.cores} x {lowered.instances} are measured"
        )
    idle = [f"--{name}" for name in ("ols", "mos", "extra", "device") if getattr(given, name) is not None]
    if idle:
        note(f"{', '.join(idle)} change nothing on a CPU")
    return lowered


def _card(found: Sdk, chosen: Parameters, *, run_only: bool) -> tuple[Card | None, AicsweepError | None]:
    """The card, and why it can't be used: a tool is missing, there is no such card, it is not Ready, or not
    free."""
    try:
        found.runner()
        if not run_only:
            found.compiler()
        cards = device.query(found)
    except Infrastructure as error:
        return None, error
    card = next((card for card in cards if card.qid == chosen.device), None)
    if card is None:
        there = ", ".join(str(card.qid) for card in cards)
        return None, BadInput([Problem("--device", f"no card {chosen.device} here", f"there are {there}")])
    in_the_way = gate.obstacle(cards, card.qid, chosen.cell(QAIC))
    # A hot card may cool down while compiling; the gate before the run waits for it.
    if in_the_way is None or in_the_way.passes == "cool":
        return card, None
    return card, Infrastructure(in_the_way.message, remedy=in_the_way.remedy, reason=in_the_way.reason)


def _earlier(at: Layout, chosen: Parameters, *, compiled: bool) -> list[Problem]:
    """What is missing of an earlier run's files, or was made with other parameters."""
    remedy = "run once without --run-only"
    needed = [at.graph, *([f"{at.binary}/{compile_.PROGRAM}"] if compiled else [])]
    problems = [
        Problem(path, f"is missing or empty in {at.root}", remedy)
        for path in needed
        if not _holds(at.path(path))
    ]
    if problems:
        return problems
    problems = records.export_problems(at, chosen)
    if compiled:
        problems += records.binary_problems(at, chosen)
    return problems


def _holds(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
