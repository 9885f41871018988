"""The order of lots and builds on estimates alone."""

from __future__ import annotations

from typing import NamedTuple

from runner.ordering import LAST_BUILDS, Lot, builds_in_order, lots_in_order


class Job(NamedTuple):
    """A job; its binary is called by the seconds it takes to build."""

    binary: str
    estimate_s: float
    export: str = "export"


def build_s(job: Job) -> float:
    return float(job.binary)


def order(*lots: list[Job], builders: int = 1) -> list[str]:
    needed = {job.binary: (place, [job]) for place, lot in enumerate(lots) for job in lot}
    return [made.id for made in builds_in_order(needed, 1, builders, build_s)]


def test_what_is_built_faster_than_measured_comes_first_then_the_longest_chain() -> None:
    lot = [Job("20", 9.0), Job("7", 9.0), Job("30", 9.0), Job("4", 9.0)]
    assert order(lot) == ["4", "7", "30", "20"]
    assert order([*lot, Job("2", 1.0), Job("1", 0.5)]) == ["4", "7", "30", "20", "2", "1"]


def test_the_last_builds_begin_by_their_length_whatever_their_lot() -> None:
    """The long one of the last lot would end alone."""
    first, last = [Job(str(n), 1.0) for n in (18, 17, 16, 15)], [Job(str(n), 1.0) for n in (99, 98)]
    assert order(first, last) == ["18", "17", "16", "15", "99", "98"]
    assert order(first, last, builders=2) == ["18", "17", "16", "99", "98", "15"]


def test_half_of_the_builds_stay_in_the_order_of_their_lots() -> None:
    """Where builders are plenty the canary is not built last."""
    canary, others = [Job("1", 1.0), Job("2", 1.0)], [Job("9", 1.0), Job("8", 1.0)]
    assert order(canary, others, builders=LAST_BUILDS * 16) == ["1", "2", "9", "8"]


def test_urgent_lots_come_first_then_those_that_let_cards_begin_early() -> None:
    slow, quick = Lot(0, [Job("50", 1.0)]), Lot(1, [Job("2", 10.0), Job("2", 10.0)])
    urgent = Lot(2, [Job("60", 1.0)], urgent=True)
    assert [lot.number for lot in lots_in_order([slow, quick, urgent], 1, 1, build_s)] == [2, 1, 0]
