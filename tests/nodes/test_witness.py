"""A witness who hears nothing is not taken for one who has heard no lie. Needs no nodes."""

from __future__ import annotations

import json
import sys

import pytest

from tests.nodes.witness import witness


def sweep(version: int, done: int) -> str:
    """As kubectl prints it."""
    status = {"observedGeneration": 1, "cells": {"done": done}}
    metadata = {"uid": "u", "generation": 1, "resourceVersion": str(version)}
    return json.dumps({"metadata": metadata, "status": status}, indent=4) + "\n"


def watch(*texts: str, then: str = "time.sleep(60)") -> list[str]:
    """A program that prints this as kubectl does."""
    return [
        sys.executable,
        "-c",
        f"import time\nfor text in {texts!r}: print(text, end='', flush=True)\n{then}",
    ]


def test_all_is_heard_up_to_what_is_asked_for() -> None:
    slow = f"time.sleep(0.5); print({sweep(7, 1)!r}, end='', flush=True); time.sleep(60)"
    with witness(watch(sweep(5, 2), then=slow)) as heard:
        assert heard.lies_until("5") == []
        (lie,) = heard.lies_until("7")
        assert "done fell" in lie


def test_a_watch_that_ended_too_early_is_no_witness() -> None:
    with (
        witness(watch(sweep(5, 2), then="")) as heard,
        pytest.raises(AssertionError, match="ended at version 5"),
    ):
        heard.lies_until("6")


def test_what_ended_the_listening_is_raised() -> None:
    with witness(watch("{\n", "no json\n", "}\n")) as heard, pytest.raises(json.JSONDecodeError):
        heard.lies_until("6")
