"""The gate before a measurement and the look after it: is the card fit, free, cool, and alone?

Deciding is pure (`obstacle`, `changed`); waiting is bounded for each kind of obstacle. Nothing here
resets a card.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runner import process
from runner.axes import NSPS
from runner.backends.qaic.device import INITIALIZING, Card
from runner.cells import Cell
from runner.errors import Infeasible, Infrastructure, PointFailed

HARDWARE_OF_SKU = {"PCIe": "std", "PCIe Pro": "pro", "PCIe Ultra": "ultra", "PCIe Ultra Plus": "ultra"}
# The vendor's own script starts no run above it.
START_C = 65.0
# A run heats its card, so that the limit for starting says nothing afterwards. No throttling point is
# published; this one is ours.
END_C = 85.0

Ask = Callable[[], Sequence[Card]]


@dataclass(frozen=True)
class Limits:
    """Longest waits in seconds, and how often to look."""

    boot_s: float = 120.0
    free_s: float = 60.0
    cool_s: float = 900.0
    # After a process ended its NSPs may take about 5 s to be free again (the vendor's own tests).
    settle_s: float = 10.0
    poll_s: float = 2.0
    settle_poll_s: float = 0.5


@dataclass(frozen=True)
class Obstacle:
    """Why a card can't be measured on now. It may pass by waiting, or (`never`) not."""

    reason: str
    message: str
    passes: Literal["never", "boot", "free", "cool"] = "never"
    remedy: str = ""


@dataclass(frozen=True)
class Passed:
    """The card as it was when the gate opened, after `waited_s`; `warnings` name what is unknown."""

    card: Card
    waited_s: float
    warnings: Sequence[str] = field(default=())


def obstacle(cards: Sequence[Card], qid: int, cell: Cell) -> Obstacle | None:
    """The first thing in the way of measuring `cell` on `qid`, gravest first. What is unknown is none."""
    card = next((card for card in cards if card.qid == qid), None)
    if card is None:
        return Obstacle("device-gone", f"card {qid} is not there any more")
    if card.status == INITIALIZING:
        return Obstacle("device-error", f"card {qid} is {card.status}", "boot")
    if not card.ready:
        return Obstacle(
            "device-error",
            f"card {qid} is not Ready: its status is {card.status or 'unknown'}",
            remedy="it may be booting (minutes), or its device node is not ours: join the group `qaic`",
        )
    if other := _other_hardware(card, cell):
        return other
    if card.in_use:
        return Obstacle("device-busy", f"card {qid} has {card.use} by somebody else", "free")
    for other_card in _neighbours(cards, card, cell):
        if other_card.in_use:
            message = f"card {qid} has a neighbour at work: QID {other_card.qid}, {other_card.use}"
            remedy = "measure.neighbours: any would not wait for it"
            return Obstacle("neighbour-busy", message, "free", remedy)
    if card.temperature_c is not None and card.temperature_c > START_C:
        message = f"card {qid} has {card.temperature_c:g} degrees C, the limit is {START_C:g}"
        return Obstacle("device-hot", message, "cool", "look at its cooling")
    return None


def pass_gate(ask: Ask, qid: int, cell: Cell, limits: Limits = Limits()) -> Passed:
    """Wait until nothing is in the way, each kind of obstacle for its own time at most.

    Raises Infrastructure for what does not pass, Infeasible (`unfit`) for more NSPs than the card has.
    """
    longest = {"never": 0.0, "boot": limits.boot_s, "free": limits.free_s, "cool": limits.cool_s}
    waited = dict.fromkeys(longest, 0.0)
    started = since = time.monotonic()
    while True:
        cards = ask()
        found = obstacle(cards, qid, cell)
        if found is None:
            card = next(card for card in cards if card.qid == qid)
            _check_fit(card, cell)
            return Passed(card, time.monotonic() - started, _unknowns(card, cell))
        left_s = longest[found.passes] - waited[found.passes]
        if left_s <= 0:
            after = f" after waiting {waited[found.passes]:.0f} s" if waited[found.passes] else ""
            raise Infrastructure(found.message + after, remedy=found.remedy, reason=found.reason)
        process.pause(min(limits.poll_s, left_s))
        now = time.monotonic()
        waited[found.passes] += now - since
        since = now


def settle(ask: Ask, qid: int, cell: Cell, limits: Limits = Limits()) -> tuple[Card | None, str]:
    """After a run: wait shortly for the card to be free again. Returns it, and what `changed` meanwhile."""
    deadline = time.monotonic() + limits.settle_s
    while True:
        cards = ask()
        reason = changed(cards, qid, cell)
        if not reason or time.monotonic() >= deadline:
            return next((card for card in cards if card.qid == qid), None), reason
        process.pause(limits.settle_poll_s)


def changed(cards: Sequence[Card], qid: int, cell: Cell) -> str:
    """What is not as it was when the gate opened, as a reason to measure again; empty if nothing."""
    found = obstacle(cards, qid, cell)
    if found is None:
        return ""
    if found.reason != "device-hot":
        return found.message
    card = next(card for card in cards if card.qid == qid)
    hot = card.temperature_c is not None and card.temperature_c > END_C
    return f"card {qid} came to {card.temperature_c:g} degrees C, above {END_C:g}" if hot else ""


def card_at_fault(cards: Sequence[Card], qid: int, cell: Cell, failure: PointFailed) -> Infrastructure | None:
    """After a run failed: the error it was if the card is not what it was before, else None."""
    found = obstacle(cards, qid, cell)
    if found is None or found.reason not in ("device-gone", "device-error"):
        return None
    message = f"{found.message}, after a run failed: {failure.message}"
    return Infrastructure(message, remedy=found.remedy, reason="device-gone")


def _other_hardware(card: Card, cell: Cell) -> Obstacle | None:
    if cell.hardware is None:
        return None
    known = HARDWARE_OF_SKU.get(card.sku, card.sku)
    wrong = bool(known) and known != cell.hardware
    wrong = wrong or (card.nsp_total is not None and card.nsp_total != NSPS[cell.hardware])
    if not wrong:
        return None
    nsps = "an unknown number of" if card.nsp_total is None else card.nsp_total
    return Obstacle(
        "wrong-sku",
        f"card {card.qid} is a {card.sku or 'card of unknown SKU'} with {nsps} NSPs,"
        f" the sweep is for {cell.hardware} with {NSPS[cell.hardware]}",
        remedy="set spec.hardware to what is in this host, or leave the card out with --devices",
    )


def _neighbours(cards: Sequence[Card], card: Card, cell: Cell) -> list[Card]:
    """Other SoCs that have to be idle: those on the same board, those of the host, or none."""
    others = [other for other in cards if other.qid != card.qid]
    if cell.neighbours == "host-idle":
        return others
    if cell.neighbours == "same-card-idle" and card.board_serial:
        return [other for other in others if other.board_serial == card.board_serial]
    return []


def _check_fit(card: Card, cell: Cell) -> None:
    needed = cell.cores * cell.instances
    if card.nsp_total is not None and needed > card.nsp_total:
        raise Infeasible(
            "run",
            "unfit",
            f"{cell.cores} cores x {cell.instances} instances need {needed} NSPs,"
            f" card {card.qid} has {card.nsp_total}",
            remedy="use fewer instances or cores",
        )


def _unknowns(card: Card, cell: Cell) -> list[str]:
    unknown = []
    if cell.hardware is not None and not card.sku:
        unknown.append("sku-unknown")
    if card.in_use is None:
        unknown.append("nsps-in-use-unknown")
    if card.temperature_c is None:
        unknown.append("temperature-unknown")
    return unknown
