"""What pods report, also those of another version; the waves of a plan."""

from __future__ import annotations

import pytest

from k8s.facts import MergeFacts, PlanFacts, merge_facts, plan_facts, waves


def test_what_a_newer_pod_says_more_is_left_out() -> None:
    assert plan_facts({"plan": "d", "lots": 3, "colour": "red"}) == PlanFacts("d", 3)
    assert merge_facts({"table": "t", "wanted": 0, "colour": "red"}) == MergeFacts("t", 0)


def test_what_an_older_pod_does_not_say_is_nothing() -> None:
    assert plan_facts({"plan": "d", "lots": 3}) == PlanFacts("d", 3)


def test_a_message_without_what_is_needed_is_lost() -> None:
    assert plan_facts({"lots": 3}) is None
    assert merge_facts({"error": "no"}) is None
    assert plan_facts(None) is merge_facts(None) is None


@pytest.mark.parametrize(("lots", "canary", "parallelism"), [(1, 1, 16), (100, 3, 2), (5, 0, 1), (64, 0, 16)])
def test_waves_cover_every_lot_once(lots: int, canary: int, parallelism: int) -> None:
    made = list(waves(PlanFacts(plan="p", lots=lots, canary=canary), parallelism))
    assert [lot for wave in made for lot in range(wave.first, wave.first + wave.count)] == list(range(lots))
    assert [wave.number for wave in made] == list(range(len(made)))
    assert all(wave.count <= max(canary, 4 * parallelism) for wave in made)
