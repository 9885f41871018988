"""Compile and run on a card, by the functions of a sweep's stages; paths are relative to the model's directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from runner import scratch
from runner.backends.qaic import compile_, device, flags, gate, locks, run
from runner.backends.qaic.bench import LOCK_S, Limits, lock_name
from runner.backends.qaic.device import Card
from runner.backends.qaic.inputs import Inputs
from runner.backends.qaic.sdk import Sdk
from runner.cells import Cell
from runner.classify import commands, printed, records
from runner.classify.layout import Layout
from runner.classify.options import QAIC
from runner.classify.parameters import Parameters
from runner.errors import PointFailed


def compile(found: Sdk, parameters: Parameters, at: Layout, limit_s: float) -> None:
    """The binary of the motif anew, its commands and its record beside it. Raises PointFailed, Infeasible,
    BadInput or Infrastructure."""
    compiler, cell = found.compiler(), parameters.cell(QAIC)
    argv = flags.compile_argv(compiler, cell, graph=at.graph, binary_dir=at.binary)
    with scratch.writing(at.commands):
        at.commands.write_text(commands.removal(at.binary) + commands.text(argv))
    # Before the binary goes: a record must not outlive what it describes.
    records.forget(at.parameters)
    compile_.compile_binary(
        compiler,
        cell,
        graph=at.graph,
        binary_dir=at.binary,
        cwd=at.root,
        log=at.log("compile"),
        limit_s=limit_s,
        echo=printed.pass_through,
    )
    facts = {"compiler": found.compiler_version(), "compile_argv": argv}
    records.write_binary(at, parameters, facts)


def measure(
    found: Sdk, card: Card, parameters: Parameters, at: Layout, fed: Inputs, limits: Limits
) -> tuple[run.Invocation, str]:
    """One call of the runner between two looks at the card; its command is appended to the commands. Also what
    changed about the card meanwhile, empty if nothing. Raises PointFailed, Infeasible, BadInput or
    Infrastructure."""
    cell, qid = parameters.cell(QAIC), parameters.device
    inputs = fed.for_runner(json=found.takes_json_inputs(), prefix=at.inputs)
    argv = flags.run_argv(
        found.runner(), cell, binary_dir=at.binary, out_dir=at.outputs, qid=str(qid), inputs=inputs
    )
    with scratch.writing(at.commands), at.commands.open("a") as file:
        file.write(commands.text(argv))

    def ask() -> Sequence[Card]:
        return device.query(found, [qid], limit_s=limits.query_s)

    with _alone_on(card):
        passed = gate.pass_gate(_saying_what_it_waits_for(ask, qid, cell), qid, cell, limits.gate)
        try:
            invocation = run.invoke(
                found.runner(),
                cell,
                binary_dir=at.binary,
                out_dir=at.outputs,
                qid=str(qid),
                inputs=inputs,
                cwd=at.root,
                log=at.log("run"),
                limit_s=parameters.time_s + limits.run_margin_s,
                device_was_free=None if passed.card.in_use is None else True,
                echo=printed.pass_through,
            )
        except PointFailed as failure:
            if error := gate.card_at_fault(ask(), qid, cell, failure):
                raise error from failure
            raise
        _, changed = gate.settle(ask, qid, cell, limits.gate)
    return invocation, changed


def _saying_what_it_waits_for(ask: gate.Ask, qid: int, cell: Cell) -> gate.Ask:
    """`ask`, which also prints each reason to wait once."""
    said: set[str] = set()

    def asked() -> Sequence[Card]:
        cards = ask()
        found = gate.obstacle(cards, qid, cell)
        if found is not None and found.passes != "never" and found.reason not in said:
            said.add(found.reason)
            printed.note(f"waiting: {found.message}")
        return cards

    return asked


@contextlib.contextmanager
def _alone_on(card: Card) -> Iterator[None]:
    """Keep sweeps off this card, and out of the way of one that wants its card's neighbours idle."""
    what = f"card {card.qid}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(locks.held(lock_name(card.serial), what, limit_s=LOCK_S))
        for name in (locks.HOST, *([f"board-{card.board_serial}"] if card.board_serial else [])):
            stack.enter_context(locks.held(name, what, limit_s=LOCK_S, shared=True))
        yield
