"""What pods report, also those of another version."""

from __future__ import annotations

from k8s.facts import MergeFacts, PlanFacts, merge_facts, plan_facts


def test_what_a_newer_pod_says_more_is_left_out() -> None:
    assert plan_facts({"plan": "d", "lots": 3, "colour": "red"}) == PlanFacts("d", 3)
    assert merge_facts({"table": "t", "wanted": 0, "colour": "red"}) == MergeFacts("t", 0)


def test_what_an_older_pod_does_not_say_is_nothing() -> None:
    assert plan_facts({"plan": "d", "lots": 3}) == PlanFacts("d", 3)


def test_a_message_without_what_is_needed_is_lost() -> None:
    assert plan_facts({"lots": 3}) is None
    assert merge_facts({"error": "no"}) is None
    assert plan_facts(None) is merge_facts(None) is None
