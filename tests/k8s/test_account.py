"""What a Sweep under way says of its progress, and how often."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from k8s import names
from k8s.account import coarse
from tests.k8s.world import World


def statuses(lots: int, slots: int, parallelism: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """All that is said, and how many lots had ended by then, while lots end one after the other and between
    two of them a device is free."""
    plan = {
        "plan": "a" * 32, "lots": lots, "exports": 0, "binaries": 0, "cells": slots, "slots": slots, "todo": slots,
        "most_slots_a_lot": slots // lots, "device_s": 600.0 * lots,
    }  # fmt: skip
    merge = {"table": "tables/t1", "wanted": 0, "counts": {"ok": slots}, "device_s": {"measuring": 1.0}}
    at = World([plan], [merge], limits={"parallelism": parallelism, "maxDeviceHours": 100_000})
    at.passes()
    at.finish(at.created[0])
    at.passes()
    before = 0
    while measuring := at.unfinished(names.MEASURE):
        status, most = measuring[0]["status"], measuring[0]["spec"]["completions"]
        for ended in range(1, most):
            held = min(most - ended, measuring[0]["spec"]["parallelism"])
            for ready in (held - 1, held):
                status.update(completedIndexes=",".join(map(str, range(ended))), active=held, ready=ready)
                at.passes()
                yield before + ended, copy.deepcopy(at.sweep["status"])
        before += most
        at.finish(measuring[0]["metadata"]["name"])
        at.passes()
        yield before, copy.deepcopy(at.sweep["status"])


@pytest.mark.parametrize(("lots", "slots"), [(40, 2_000), (200, 10_000)])
def test_progress_of_many_cells_is_told_in_steps(lots: int, slots: int) -> None:
    said = list(statuses(lots, slots, parallelism=16))
    told = sum(status != before for (_, before), (_, status) in itertools.pairwise(said))
    # Each twentieth, or 250 slots; and the ETA where a wave comes to its end.
    assert told <= max(20, slots // 250) + 10 * (lots // 64 + 1)
    done = [status["cells"]["done"] for _, status in said]
    assert done == sorted(done)
    assert all(0 <= ended * slots // lots - count < 251 for (ended, _), count in zip(said, done, strict=True))


def test_each_lot_of_few_is_told() -> None:
    messages = {status["message"] for _, status in statuses(10, 80, parallelism=2)}
    assert messages >= {f"round 1: {ended} of 10 lots" for ended in range(1, 10)}


def test_the_eta_stays_while_it_is_about_right() -> None:
    said = [(status["message"], status.get("eta")) for _, status in statuses(64, 3_200, parallelism=16)]
    # Of one step: pods come and go, and what was said holds to a factor of two.
    assert len({eta for message, eta in said if message == said[0][0]}) == 1
    assert len({eta for _, eta in said}) > 5


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "10s"), (52, "50s"), (90, "2m"), (3599, "1h"), (12_000, "3h20m")]
)
def test_coarse(seconds, text):
    assert coarse(seconds) == text
