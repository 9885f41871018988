"""However much there is to say, a status stays small."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from k8s.crd import structural
from k8s.draft import Draft
from k8s.status import TEXT_CHARACTERS, Condition, SweepStatus

KIB = 1024


def largest(schema: dict[str, Any]) -> Any:
    """A value that uses all room a schema gives."""
    if "enum" in schema:
        return max(schema["enum"], key=len)
    if schema["type"] == "string":
        return "x" * schema["maxLength"]
    if schema["type"] == "array":
        return [largest(schema["items"])] * schema["maxItems"]
    if schema["type"] == "object":
        return {name: largest(field) for name, field in schema["properties"].items()}
    return 123456789.123 if schema["type"] == "number" else 2**53


def test_the_largest_status_is_small():
    value = largest(structural(SweepStatus, "status"))
    # A longer name than a label's value is possible, but then on no more than the odd node.
    value["excludedNodes"] = [name[:63] for name in value["excludedNodes"]]
    assert len(json.dumps(value, separators=(",", ":"))) <= 16 * KIB


def test_nothing_said_is_nothing_written():
    assert SweepStatus().model_dump(by_alias=True, exclude_defaults=True) == {}


def test_names_are_those_of_the_api():
    condition = Condition(
        type="Valid", status="True", reason="Valid", last_transition_time="2026-11-24T14:00:00Z"
    )
    dumped = SweepStatus(conditions=(condition,), round=1).model_dump(by_alias=True, exclude_defaults=True)
    assert dumped["round"] == 1
    assert dumped["conditions"][0]["lastTransitionTime"] == "2026-11-24T14:00:00Z"


def test_a_draft_is_cut_to_what_there_is_room_for():
    sweep = {"metadata": {"generation": 1}}
    drafted = Draft(sweep, datetime(2026, 1, 1, tzinfo=UTC))
    drafted.phase("Invalid", "x" * 10_000)
    for name in TEXT_CHARACTERS:
        drafted.text(name, "x" * 10_000)
    drafted.condition("Valid", False, "Invalid", "x" * 10_000)
    SweepStatus.model_validate_json(json.dumps(drafted.status), strict=True)


def test_device_hours_follow_the_seconds():
    drafted = Draft({"metadata": {"generation": 1}}, datetime(2026, 1, 1, tzinfo=UTC))
    drafted.seconds(used=5400.4, estimate=7200)
    assert drafted.status["deviceHours"] == 1.5
