"""The lists of guards fit the code: each text is there once, each test exists. `make mutants` takes them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guards.guards import ROOT, Guard, copy_tree, guards, named, pytest_in, without

GUARDS = guards()


def test_no_two_have_the_same_name() -> None:
    names = [guard.name for guard in GUARDS]
    assert sorted(names) == sorted(set(names))
    assert not set(names) & {guard.list for guard in GUARDS}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.list}-{guard.name}")
def test_its_text_is_there_once_and_would_change(guard: Guard) -> None:
    assert guard.places() == 1
    assert guard.new != guard.old
    assert guard.tests
    assert guard.why


def test_the_tests_named_exist() -> None:
    done = pytest_in(ROOT, "--collect-only", *sorted({test for guard in GUARDS for test in guard.tests}))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_names_are_of_guards_or_lists() -> None:
    one = Guard("list", "one", "f", "a", "b", ["t"], "why")
    two = Guard("other", "two", "f", "a", "b", ["t"], "why")
    assert named([one, two], []) == [one, two]
    assert named([one, two], ["two"]) == [two]
    assert named([one, two], ["list"]) == [one]
    with pytest.raises(LookupError, match="three"):
        named([one, two], ["three"])


@pytest.mark.parametrize(("tested", "killed"), [("test_adds", True), ("test_nothing", False)])
def test_a_guard_is_missed_by_the_test_that_fails_without_it(
    tmp_path: Path, tested: str, killed: bool
) -> None:
    (tmp_path / "code_here.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test_it.py").write_text(
        "import code_here\n\n\ndef test_adds():\n    assert code_here.add(1, 2) == 3\n\n\n"
        "def test_nothing():\n    pass\n"
    )
    guard = Guard(
        "list", "adds", "code_here.py", "a + b", "a - b", [f"test_it.py::{tested}"], "sums are right"
    )
    assert without(guard, tmp_path).killed_by == (f"test_it.py::{tested}" if killed else "")


def test_a_test_that_cannot_run_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "code_here.py").write_text("x = 1\n")
    guard = Guard("list", "gone", "code_here.py", "x = 1", "x = 2", ["test_none.py::test_x"], "why")
    with pytest.raises(RuntimeError, match="gone"):
        without(guard, tmp_path)


def test_the_copy_has_what_tests_need(tmp_path: Path) -> None:
    copy_tree(tmp_path)
    assert (tmp_path / "pyproject.toml").read_text() == (ROOT / "pyproject.toml").read_text()
    assert (tmp_path / "k8s/decide.py").is_file()
    assert not (tmp_path / ".git").exists()
