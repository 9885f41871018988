"""What a run had in flight is known once its process is dead, and not before."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from runner import inflight, journal
from runner.store import Store, open_store

SWEEP, ANOTHER = "memory:/sweep", "memory:/another"


def left(folder: Path, sweep: str = SWEEP) -> list[tuple[str, list[str]]]:
    return list(journal.left_behind(folder, sweep))


def dies(folder: Path, writer: str, *items: str, done: int = 0, sweep: str = SWEEP) -> None:
    """A process that begins the items, ends the first `done` of them, and is killed."""
    script = f"""
import os, signal, sys, pathlib
from contextlib import ExitStack
from runner import journal
book = journal.begin(pathlib.Path({str(folder)!r}), {writer!r}, {sweep!r})
stacks = [ExitStack() for item in {items!r}]
for stack, item in zip(stacks, {items!r}):
    stack.enter_context(book.noted(item))
for stack in stacks[:{done}]:
    stack.close()
os.kill(os.getpid(), signal.SIGKILL)
"""
    repository = str(Path(__file__).parents[1])
    ended = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": repository})
    assert ended.returncode == -signal.SIGKILL


def test_of_a_dead_run_the_items_in_flight_are_known_once(tmp_path: Path) -> None:
    dies(tmp_path, "w1", "a" * 40, "b", "c", done=2)
    assert left(tmp_path, ANOTHER) == []
    assert left(tmp_path) == [("w1", ["c"])]
    assert left(tmp_path) == []


def test_of_a_living_run_nothing_is_taken(tmp_path: Path) -> None:
    book = journal.begin(tmp_path, "w1", SWEEP)
    with book.noted("a"):
        assert left(tmp_path) == []
    book.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_is_raised_is_no_death(tmp_path: Path) -> None:
    book = journal.begin(tmp_path, "w1", SWEEP)
    with pytest.raises(ValueError, match="x"), book.noted("a"):
        raise ValueError("x")
    os.close(book.descriptor)  # and now it dies
    assert left(tmp_path) == [("w1", [])]


def test_of_another_sweep_stays_what_it_needs_and_only_for_so_long(tmp_path: Path) -> None:
    dies(tmp_path, "idle", "a", done=1, sweep=ANOTHER)
    dies(tmp_path, "recent", "a", sweep=ANOTHER)
    dies(tmp_path, "old", "a", sweep=ANOTHER)
    long_ago = time.time() - journal.KEPT_S - 60
    os.utime(tmp_path / "old", (long_ago, long_ago))
    assert left(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["recent"]
    assert left(tmp_path, ANOTHER) == [("recent", ["a"])]


def test_what_is_locked_is_open_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS asks for it: `flock` fails with EBADF else."""
    flock = fcntl.flock

    def over_nfs(file: IO[bytes] | int, how: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, how)

    dies(tmp_path, "w1", "a")
    monkeypatch.setattr(fcntl, "flock", over_nfs)
    assert left(tmp_path) == [("w1", ["a"])]


def test_where_locks_are_not_to_be_had_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    dies(tmp_path, "w1", "a")
    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        left(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n", b"garbage", b"memory:/sweep\nhalf a line", b"\xff\n\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert left(tmp_path) == []
    assert (tmp_path / "x").exists()


@pytest.fixture
def home() -> Store:
    return open_store("memory:").at("sweep")


def test_two_deaths_condemn_and_an_end_in_order_does_not(tmp_path: Path, home: Store) -> None:
    for number, deaths in ((1, 1), (2, 2)):
        dies(tmp_path, f"w{number}", "a", "b", done=1, sweep=home.url)
        with inflight.here(home, f"after-{number}", tmp_path) as attempt:
            assert (attempt.deaths("b"), attempt.deaths("a")) == (deaths, 0)
            assert not attempt.careful
            assert attempt.in_order(["b", "a"], str) == ["a", "b"]
            with pytest.raises(KeyboardInterrupt), attempt.flying("a"):
                raise KeyboardInterrupt
            verdict = attempt.verdict("b", "run")
    assert verdict is not None
    assert (verdict.reason, verdict.message) == ("killed", "2 runs that worked on it were killed")
    assert list(tmp_path.iterdir()) == []
    assert inflight.here(home, "last", tmp_path).deaths("a") == 0
