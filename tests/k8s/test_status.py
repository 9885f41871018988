"""However much there is to say, a status stays small."""

from __future__ import annotations

import json
from typing import Any

from k8s.crd import structural
from k8s.status import Condition, SweepStatus

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
