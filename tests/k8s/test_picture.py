"""A Sweep at a glance, and how one ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from k8s import picture

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def sweep(*conditions: tuple[str, str, str], generation: int = 1, **status: Any) -> dict[str, Any]:
    said = [
        {"type": kind, "status": is_, "reason": reason, "lastTransitionTime": "2026-01-01T11:59:00Z"}
        for kind, is_, reason in conditions
    ]
    return {
        "metadata": {"name": "it", "namespace": "a", "uid": "u", "generation": generation},
        "spec": {"models": ["resnet50"]},
        "status": {"observedGeneration": 1, "conditions": said, **status},
    }


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        ([("Complete", "True", "AllMeasured")], 0),
        ([("Complete", "True", "SomeFailed")], 1),
        ([("Failed", "True", "CanaryFailed")], 1),
        ([("Failed", "True", "OverBudget")], 2),
        ([("Failed", "True", "BadInput")], 2),
        ([("Failed", "True", "PlanFailed")], 3),
        ([("Valid", "False", "Invalid")], 2),
    ],
)
def test_exit_codes_are_those_of_a_local_run(conditions: list[tuple[str, str, str]], code: int) -> None:
    end = picture.ended(sweep(*conditions))
    assert end is not None
    assert end.code == code


def test_what_was_said_of_an_edited_spec_is_no_end() -> None:
    assert picture.ended(sweep(("Complete", "True", "AllMeasured"), generation=2)) is None
    assert picture.ended(sweep(("Complete", "False", "Edited"))) is None


def test_why_nothing_goes_on() -> None:
    def waiting(found: dict[str, Any]) -> str:
        return dict(picture.fields(picture.picture(found, [], [], NOW)))["waiting"]

    assert "is one running" in waiting({**sweep(), "status": {}})
    assert "has not seen the last edit" in waiting(sweep(generation=2, waiting="old news"))
    assert waiting(sweep(waiting="0/3 nodes are available")) == "0/3 nodes are available"


def job(stage: str, generation: str = "1", **status: Any) -> dict[str, Any]:
    labels = {
        "aicsweep.dev/stage": stage,
        "aicsweep.dev/generation": generation,
        "aicsweep.dev/round": "1",
    }
    owner = {"uid": "u"}
    return {
        "metadata": {
            "name": f"j-{stage}-{generation}",
            "uid": "j",
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {"completions": 4, "completionMode": "Indexed"},
        "status": status,
    }


def pod(stage: str, phase: str, node: str = "", waits: str = "") -> dict[str, Any]:
    scheduled = [{"type": "PodScheduled", "status": "False", "message": waits}] if waits else []
    return {
        "metadata": {"labels": {"batch.kubernetes.io/job-name": f"j-{stage}-1"}},
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": scheduled},
    }


def test_what_runs_where() -> None:
    pods = [
        pod("measure", "Running", "n-1"),
        pod("measure", "Running", "n-1"),
        pod("measure", "Running", "n-0"),
        pod("measure", "Pending", waits="Insufficient qualcomm.com/qaic"),
    ]
    found = [job("measure", completedIndexes="0,2", failedIndexes="3"), job("plan", generation="0")]
    shown = picture.picture(sweep(round=1), found, pods, NOW)
    (row,) = picture.stage_rows(shown)
    assert row == {
        "stage": "measure",
        "done": "2/4",
        "failed": "1",
        "running": "3",
        "waiting": "1",
        "where": "n-0, n-1 ×2",
    }
    (waits,) = picture.as_dict(shown)["stages"]
    assert waits["waiting"] == {"Insufficient qualcomm.com/qaic": 1}


def test_a_hundred_nodes_stay_one_line() -> None:
    pods = [pod("measure", "Running", f"n-{number:02}") for number in range(100)]
    (row,) = picture.stage_rows(picture.picture(sweep(round=1), [job("measure")], pods, NOW))
    assert row["where"].endswith("n-07, 92 more")
