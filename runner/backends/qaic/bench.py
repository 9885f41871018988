"""A card made ready to measure one cell after the other.

    locks -> gate -> warm-up (discarded; meanwhile the reference output is computed) -> its output checked
    -> for each repeat: run, check its output, look at the card again -> one Measurement

Whatever is the card's or the host's fault is Infrastructure: the cell stays wanted.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shlex
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from runner import keys, scratch
from runner.backends import Device, ExportReport, Measurement, OutputCheck
from runner.backends.qaic import compare, compile_, device, flags, gate, inputs, locks, run
from runner.backends.qaic.device import Card
from runner.backends.qaic.inputs import Inputs
from runner.backends.qaic.run import Invocation
from runner.backends.qaic.sdk import Sdk
from runner.cells import Cell
from runner.errors import Infrastructure, PointFailed
from runner.result import EMULATED_SDK

# Longest wait for another aicsweep to leave the card.
LOCK_S = 30.0
VERSION_UNKNOWN, FEWER_INPUTS, OUTPUT_VARIES = "sdk-version-unknown", "fewer-inputs", "output-varies"


@dataclass(frozen=True)
class Limits:
    """Longest waits in seconds: for an answer of the query, over the runner's own time, and for
    neighbours that another aicsweep measures."""

    query_s: float = device.QUERY_LIMIT_S
    run_margin_s: float = run.MARGIN_S
    neighbours_s: float = 1800.0
    gate: gate.Limits = field(default_factory=gate.Limits)


@dataclass(frozen=True)
class _Checked:
    """A run whose output is right; `of_input` is the number of the input that it belongs to."""

    invocation: Invocation
    check: OutputCheck
    of_input: int
    output_digest: str


class CardBench:
    """Measures cells on one card; `folder` is scratch space of its own. The card's lock is the caller's."""

    def __init__(self, sdk: Sdk, chosen: Device, folder: Path, limits: Limits) -> None:
        self._sdk, self._folder, self._limits = sdk, folder, limits
        self._runner = sdk.runner()
        self._json = sdk.takes_json_inputs()
        self._qid = int(chosen.id)
        self._cards = device.query(sdk, limit_s=limits.query_s)
        card = next((card for card in self._cards if card.qid == self._qid), None)
        if card is None or (card.ready and card.serial != chosen.target):
            raise Infrastructure(
                f"card {self._qid} is not {chosen.target} any more", reason="device-gone",
                remedy="`aicsweep devices` shows the cards of this host",
            )  # fmt: skip
        self._target, self._board = chosen.target, card.board_serial
        self._references = compare.References()
        self._inputs: Inputs | None = None

    def measure(self, cell: Cell, graph: Path, binary: Path | None, report: ExportReport) -> Measurement:
        """See `Bench.measure`."""
        if binary is None:
            raise PointFailed("run", "no-binary", "there is no compiled program to run")
        fed = self._fed(cell, report)
        began = time.monotonic()
        with self._alone(cell):
            locked_s = time.monotonic() - began
            passed = gate.pass_gate(lambda: self._ask(cell), self._qid, cell, self._limits.gate)
            at = _Point(cell, graph, binary, report, fed)
            # Unknown is neither: `in_use` None.
            free = None if passed.card.in_use is None else True
            warm = self._warm_up(at, free)
            card, reason = self._settle(cell)
            changes = [reason]
            runs = []
            for number in range(1, cell.repeats + 1):
                runs.append(self._checked_run(at, number, free and not changes[-1]))
                card, reason = self._settle(cell)
                changes.append(reason)
        if failure := run.littles_law([one.invocation for one in runs], cell):
            raise failure
        return self._measurement(at, passed, warm, runs, card, changes, locked_s)

    def _measurement(
        self,
        at: _Point,
        passed: gate.Passed,
        warm: _Checked,
        runs: Sequence[_Checked],
        card_after: Card | None,
        changes: Sequence[str],
        locked_s: float,
    ) -> Measurement:
        invocations = [one.invocation for one in runs]
        figures = warm.invocation.statistics
        worst = max((warm, *runs), key=lambda one: one.check.relative_error)
        warnings = {*passed.warnings, *(w for one in invocations for w in one.warnings)}
        if self._sdk.emulated:
            warnings.add(EMULATED_SDK)
        if not self._sdk.platform_version:
            warnings.add(VERSION_UNKNOWN)
        if len(at.fed.files) < at.cell.set_size:
            warnings.add(FEWER_INPUTS)
        if len({one.output_digest for one in (warm, *runs)}) > 1:
            warnings.add(OUTPUT_VARIES)
        return Measurement(
            windows=[one.window for one in invocations],
            load_s=max(0.0, warm.invocation.seconds - figures.duration_s),
            warmup_s=figures.duration_s,
            gate_s=locked_s + passed.waited_s,
            device=self._target,
            check=worst.check,
            contended="; ".join(dict.fromkeys(filter(None, changes))),
            input_digest=at.fed.digest,
            output_digest=warm.output_digest,
            warnings=sorted(warnings),
            facts={
                **_card_facts(passed.card, "before"),
                **(_card_facts(card_after, "after") if card_after else {}),
                **_run_facts(at, warm, invocations),
            },
        )

    def _fed(self, cell: Cell, report: ExportReport) -> Inputs:
        """Input files for the cell; those of the cell before if they serve."""
        shape = (cell.batch_size, 3, cell.image_size, cell.image_size)
        folder = self._folder / f"inputs-{report.input_name.replace('/', '_')}-{cell.set_size}"
        if self._inputs is None or (self._inputs.shape, self._inputs.folder) != (shape, folder):
            if self._inputs is not None:
                scratch.remove(self._inputs.folder)
            self._inputs = None
            self._inputs = inputs.write(scratch.fresh(folder), report.input_name, shape, cell.set_size)
        return self._inputs

    def _warm_up(self, at: _Point, free: bool | None) -> _Checked:
        # The run is discarded, so the processor may be busy beside it.
        with ThreadPoolExecutor(1, thread_name_prefix="reference") as pool:
            reference = pool.submit(self._references.outputs, at.graph, at.report, at.fed.shape)
            invocation = self._invoke(at, 0, free)
            reference.result()
        return self._check(at, invocation, 0)

    def _checked_run(self, at: _Point, number: int, free: bool | None) -> _Checked:
        return self._check(at, self._invoke(at, number, free), number)

    def _invoke(self, at: _Point, number: int, free: bool | None) -> Invocation:
        try:
            return run.invoke(
                self._runner,
                at.cell,
                binary_dir=str(at.binary.absolute()),
                out_dir=f"run-{number}",
                qid=str(self._qid),
                inputs=at.fed.for_runner(json=self._json, prefix=str(at.fed.folder)),
                cwd=self._folder,
                log=self._folder / "run.log",
                limit_s=flags.whole_seconds(at.cell.seconds) + self._limits.run_margin_s,
                device_was_free=free,
            )
        except PointFailed as failure:
            cards = device.query(self._sdk, [self._qid], limit_s=self._limits.query_s)
            if error := gate.card_at_fault(cards, self._qid, at.cell, failure):
                raise error from failure
            raise

    def _check(self, at: _Point, invocation: Invocation, number: int) -> _Checked:
        """Compare a run's output. Which of several inputs an instance takes first is not documented."""
        out = self._folder / f"run-{number}"
        batch = at.cell.batch_size
        actual = compare.read_output(out, at.report, batch)
        scratch.remove(out)
        first: OutputCheck | None = None
        for of_input in range(len(at.fed.files)):
            expected = self._references.outputs(at.graph, at.report, at.fed.shape, of_input)
            check = compare.compare(actual, expected)
            if compare.within(check, at.cell.precision):
                return _Checked(invocation, check, of_input, keys.digest_bytes(actual.tobytes()))
            first = first or check
        assert first is not None
        raise compare.wrong_output(first, at.cell.precision)

    def _ask(self, cell: Cell) -> list[Card]:
        """This card and those that the cell wants idle."""
        qids = [self._qid]
        if cell.neighbours == "host-idle":
            qids = [card.qid for card in self._cards]
        elif cell.neighbours == "same-card-idle":
            qids += [card.qid for card in self._siblings()]
        return device.query(self._sdk, qids, limit_s=self._limits.query_s)

    def _siblings(self) -> list[Card]:
        return [
            card
            for card in self._cards
            if self._board and card.board_serial == self._board and card.qid != self._qid
        ]

    def _settle(self, cell: Cell) -> tuple[Card | None, str]:
        return gate.settle(lambda: self._ask(cell), self._qid, cell, self._limits.gate)

    @contextlib.contextmanager
    def _alone(self, cell: Cell) -> Iterator[None]:
        """Keep other aicsweep processes' and threads' cards as idle as the cell wants its neighbours."""
        limit_s, what = self._limits.neighbours_s, f"the neighbourhood of card {self._qid}"
        with contextlib.ExitStack() as stack:
            idle_host = cell.neighbours == "host-idle"
            stack.enter_context(locks.held(locks.HOST, what, limit_s=limit_s, shared=not idle_host))
            if self._siblings():
                shared = cell.neighbours != "same-card-idle"
                stack.enter_context(locks.held(f"board-{self._board}", what, limit_s=limit_s, shared=shared))
            yield


@dataclass(frozen=True)
class _Point:
    """What is measured and with what."""

    cell: Cell
    graph: Path
    binary: Path
    report: ExportReport
    fed: Inputs


def lock_name(target: str) -> str:
    """Of the lock that a bench holds on its card."""
    return f"card-{target}"


def _card_facts(card: Card, when: str) -> dict[str, str]:
    fixed = {
        "qid": str(card.qid),
        "serial": card.serial,
        "sku": card.sku,
        "firmware": card.firmware,
        "driver": device.driver_version(),
        "nsp_total": _text(card.nsp_total),
        "device_query": card.raw,
    }
    moment = {f"temperature_c_{when}": _text(card.temperature_c), f"power_w_{when}": _text(card.power_w)}
    return {**(fixed if when == "before" else {}), **moment}


def _run_facts(at: _Point, warm: _Checked, invocations: Sequence[Invocation]) -> dict[str, str]:
    execution = [s for one in invocations if (s := one.latencies.execution_s) is not None]
    facts = {
        "compile_flags": shlex.join(flags.compile_flags(at.cell)),
        "run_command": shlex.join(invocations[-1].argv),
        "statistics": "\n".join(one.statistics.line for one in invocations),
        "latency_header": invocations[-1].latencies.header,
        "reference": f"onnxruntime {importlib.metadata.version('onnxruntime')}",
    }
    if execution:
        facts["exec_total_p95_s"] = f"{np.percentile(np.concatenate(execution), 95):.9f}"
    if warm.of_input:
        facts["output_of_input"] = str(warm.of_input)
    with contextlib.suppress(OSError, orjson.JSONDecodeError):
        call = orjson.loads((at.binary / compile_.CALL).read_bytes())
        facts["compiler"] = str(call["compiler"])
    return facts


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
