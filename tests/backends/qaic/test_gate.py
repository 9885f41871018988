"""What is in a measurement's way, in which order, and how long it is waited for. No tool is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from runner import process
from runner.backends.qaic import gate
from runner.backends.qaic.device import Card
from runner.errors import Infeasible, Infrastructure, Interrupted
from tests.backends.qaic.networks import cell

FIELDS = {
    "Status": "Ready", "Sku Type": "PCIe", "Nsp Total": "14", "Nsp Free": "14", "Board serial": "B0",
    "SoC temperature(degree C)": "40",
}  # fmt: skip
LIMITS = gate.Limits(boot_s=0.02, free_s=0.02, cool_s=0.02, settle_s=0.02, poll_s=0.001, settle_poll_s=0.001)
NAMES = {"status": "Status", "sku": "Sku Type", "total": "Nsp Total", "free": "Nsp Free",
         "board": "Board serial", "temperature": "SoC temperature(degree C)"}  # fmt: skip


def card(qid: int = 0, **changes: Any) -> Card:
    """A free Standard card; None leaves a line out."""
    fields = {**FIELDS, **{NAMES[name]: value for name, value in changes.items()}}
    return Card(qid, {name: str(value) for name, value in fields.items() if value is not None}, "")


def reason_of(*cards: Card, **point: Any) -> str:
    found = gate.obstacle(cards, 0, cell(**point))
    return found.reason if found else ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"status": "Initializing"}, "device-error"),
        ({"status": None}, "device-error"),
        ({"status": "Error", "free": 3, "temperature": 90}, "device-error"),
        ({"sku": "PCIe Pro", "total": 16, "free": 16}, "wrong-sku"),
        ({"sku": "PCIe Lite"}, "wrong-sku"),
        ({"sku": None, "total": 16, "free": 16}, "wrong-sku"),
        ({"sku": None}, ""),
        ({"sku": "Invalid"}, ""),
        ({"free": 13, "temperature": 90}, "device-busy"),
        ({"free": None}, ""),
        ({"temperature": 65}, ""),
        ({"temperature": 65.5}, "device-hot"),
        ({"temperature": None}, ""),
    ],
)
def test_the_gravest_obstacle_is_named_and_the_unknown_is_none(changes: dict[str, Any], reason: str) -> None:
    assert reason_of(card(**changes)) == reason


def test_a_card_that_vanished() -> None:
    assert reason_of(card(1)) == "device-gone"


@pytest.mark.parametrize(
    ("neighbours", "board", "reason"),
    [
        ("any", "B0", ""),
        ("same-card-idle", "B0", "neighbour-busy"),
        ("same-card-idle", "B1", ""),
        ("host-idle", "B1", "neighbour-busy"),
        (None, "B0", ""),
    ],
)
def test_neighbours(neighbours: str | None, board: str, reason: str) -> None:
    assert reason_of(card(), card(1, board=board, free=1), neighbours=neighbours) == reason
    assert reason_of(card(), card(1, board=board, status="Error", free=None), neighbours=neighbours) == ""


def test_without_declared_hardware_any_sku_will_do() -> None:
    assert reason_of(card(sku="PCIe Ultra", total=16, free=16), hardware=None) == ""


def test_waiting_ends_when_the_obstacle_does() -> None:
    answers = [[card(free=3)], [card(free=3)], [card(temperature=70)], [card()]]
    passed = gate.pass_gate(lambda: answers.pop(0), 0, cell(), replace(LIMITS, free_s=60, cool_s=60))
    assert answers == []
    assert passed.warnings == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"free": 3}, "11 of 14 NSPs in use by somebody else after waiting"),
        ({"temperature": 70}, "70 degrees C, the limit is 65 after waiting"),
        ({"status": "Initializing"}, "is Initializing after waiting"),
        ({"status": "Error"}, r"its status is Error\n"),
    ],
)
def test_waiting_is_bounded_and_what_never_passes_is_not_waited_for(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Infrastructure, match=said):
        gate.pass_gate(lambda: [card(**changes)], 0, cell(), LIMITS)


def test_waiting_ends_when_asked_to_stop() -> None:
    process.stopping.set()
    try:
        with pytest.raises(Interrupted):
            gate.pass_gate(lambda: [card(free=3)], 0, cell(), replace(LIMITS, free_s=600))
    finally:
        process.stopping.clear()


def test_what_is_unknown_is_said() -> None:
    passed = gate.pass_gate(lambda: [card(sku=None, free=None, temperature=None)], 0, cell(), LIMITS)
    assert set(passed.warnings) == {"sku-unknown", "nsps-in-use-unknown", "temperature-unknown"}


def test_more_nsps_than_the_card_has_are_the_points_fault() -> None:
    with pytest.raises(Infeasible) as caught:
        gate.pass_gate(lambda: [card()], 0, cell(cores=4, instances=4), LIMITS)
    assert caught.value.reason == "unfit"


def settled(*answers: Sequence[Card]) -> str:
    left = list(answers)
    _, reason = gate.settle(lambda: left.pop(0) if len(left) > 1 else left[0], 0, cell(), LIMITS)
    return reason


def test_resources_may_take_a_moment_to_be_free_after_a_run() -> None:
    assert settled([card(free=0)], [card(free=5)], [card()]) == ""
    assert "12 of 14 NSPs in use" in settled([card(free=2)])


def test_heat_after_a_run() -> None:
    assert settled([card(temperature=80)]) == ""
    assert "90 degrees C, above 85" in settled([card(temperature=90)])
