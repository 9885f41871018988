"""docs/faults.md names tests that are there, and every fault that is tested."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cluster import test_faults, test_faults_people, test_faults_pods, test_flow
from tests.nodes import test_faults as on_nodes

DOCUMENT = Path(__file__).parents[1] / "docs/faults.md"
FAULTS = {
    "test_faults": test_faults.play.names,
    "test_faults_people": test_faults_people.play.names,
    "test_faults_pods": test_faults_pods.play.names,
    "nodes": [act.__name__ for act in on_nodes.PLAYS],
}
PLAYS = {**FAULTS, "test_flow": test_flow.play.names}


def named() -> set[tuple[str, str]]:
    """(module, play) of each test in the table; a module holds until another one is named."""
    found = set()
    for row in re.findall(r"^\|.*\| (`.*`) \|$", DOCUMENT.read_text(), re.MULTILINE):
        module = ""
        for name in re.findall(r"`([^`]+)`", row):
            if "::" in name:
                continue  # a test by its own name, of the tables further down
            if ": " in name:
                module, _, name = name.partition(": ")
            found.add((module, name))
    return found


def test_each_test_named_by_module_and_function_exists() -> None:
    names = set(re.findall(r"`(test_\w+)::(test_\w+)`", DOCUMENT.read_text()))
    there = {
        (file.stem, name)
        for file in Path(__file__).parent.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)
    }
    assert names
    assert names <= there


def test_each_named_test_exists() -> None:
    assert named() <= {(module, name) for module, names in PLAYS.items() for name in names}


def test_each_tested_fault_is_named() -> None:
    assert {(module, name) for module, names in FAULTS.items() for name in names} <= named()
    for name in re.findall(r"^def (test_\w+)\(", Path(on_nodes.__file__).read_text(), re.MULTILINE):
        assert f"`test_faults::{name}`" in DOCUMENT.read_text()
