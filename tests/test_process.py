"""One tool's call: what is known of its end, what is kept of its output, and that nothing of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runner import process
from runner.errors import Infrastructure, Interrupted


@pytest.fixture(autouse=True)
def _not_stopping() -> Iterator[None]:
    yield
    process.stopping.clear()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def eventually(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_both_streams_and_the_exit_code_are_known(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = process.run(
        python("import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(7)"),
        limit_s=60,
        log=log,
    )
    assert (ended.exit_code, ended.signal, ended.over_limit, ended.ok) == (7, None, False, False)
    assert (ended.stdout, ended.stderr) == ("out\n", "err\n")
    assert sorted(log.read_text().split()) == ["err", "out"]
    assert sorted(ended.log_tail.split()) == ["err", "out"]


def test_standard_input_is_closed_and_the_folder_is_the_one_given(tmp_path: Path) -> None:
    ended = process.run(
        python("import os, sys; print(repr(sys.stdin.read()), os.getcwd(), os.getsid(0) == os.getpid())"),
        limit_s=60,
        cwd=tmp_path,
    )
    assert ended.stdout.split() == ["''", str(tmp_path.resolve()), "True"]


def test_a_signal_is_told_from_an_exit_code() -> None:
    ended = process.run(python("import os; os.kill(os.getpid(), 11)"), limit_s=60)
    assert (ended.exit_code, ended.signal, ended.killed) == (None, signal.SIGSEGV, False)


@pytest.mark.parametrize("code", ["import os; os.kill(os.getpid(), 9)", "import sys; sys.exit(137)"])
def test_a_memory_kill_shows_directly_or_through_a_shell(code: str) -> None:
    assert process.run(python(code), limit_s=60).killed


def test_at_the_limit_the_whole_tree_ends_though_it_ignores_sigterm(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"])
stray = subprocess.Popen(["sleep", "300"], start_new_session=True)
with open({str(pids)!r}, "w") as file:
    print(os.getpid(), child.pid, stray.pid, file=file)
time.sleep(300)
"""
    # The limit must not pass before the children are there.
    ended = process.run(python(code), limit_s=3)
    assert ended.over_limit
    assert not ended.ok
    assert not ended.killed
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) == 3
    assert all(dead(pid) for pid in found)


def test_a_child_left_behind_by_a_tool_that_ended_is_ended(tmp_path: Path) -> None:
    # It holds the pipe as well: waiting for its end of file would take 300 s.
    ended = process.run(["sh", "-c", "sleep 300 & echo $!"], limit_s=60)
    assert ended.ok
    assert not ended.over_limit
    assert dead(int(ended.stdout))


@pytest.mark.parametrize("how", ["stopping", "ctrl-c"])
def test_an_interruption_ends_the_tool(tmp_path: Path, how: str) -> None:
    pid_file = tmp_path / "pid"

    def interrupt() -> None:
        eventually(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
        process.stopping.set() if how == "stopping" else os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    expected = Interrupted if how == "stopping" else KeyboardInterrupt
    with pytest.raises(expected):
        process.run(["sh", "-c", f"echo $$ > {pid_file}; sleep 300"], limit_s=300)
    thread.join()
    assert dead(int(pid_file.read_text()))


def test_nothing_starts_and_no_pause_lasts_once_asked_to_stop(tmp_path: Path) -> None:
    process.stopping.set()
    with pytest.raises(Interrupted):
        process.run(["touch", str(tmp_path / "started")], limit_s=60)
    assert not (tmp_path / "started").exists()
    with pytest.raises(Interrupted):
        process.pause(300)


def test_output_is_bounded_in_memory_and_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_BYTES", 1 << 20)
    log = tmp_path / "log"
    code = "print('first'); [print('x' * 999) for _ in range(5000)]; print('last')"
    ended = process.run(python(code), limit_s=60, log=log)
    for text in (ended.stdout, log.read_text()):
        assert text.startswith("first\n")
        assert text.endswith("last\n")
        assert "bytes left out]" in text
    assert len(ended.stdout) < process.HEAD_BYTES + 3 * process.TAIL_BYTES
    assert len(ended.stdout_tail) == process.TAIL_BYTES
    assert log.stat().st_size < (1 << 20) + 2 * process.TAIL_BYTES


def test_a_short_output_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = process.Kept(4)
    for chunk in (b"ab", b"cd", b"ef"):
        kept.add(chunk)
    assert kept.text == kept.tail == "abcdef"


def test_output_passes_through_as_it_comes() -> None:
    passed = {1: b"", 2: b""}

    def echo(descriptor: int, chunk: bytes) -> None:
        passed[descriptor] += chunk

    process.run(["sh", "-c", "echo one; echo two >&2; echo three"], limit_s=60, echo=echo)
    assert passed == {1: b"one\nthree\n", 2: b"two\n"}


def test_a_tool_that_is_not_there_or_not_executable_or_not_ours_is_named(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    with pytest.raises(Infrastructure, match=r"missing.* can't be started"):
        process.run([tmp_path / "missing"], limit_s=60)
    with pytest.raises(Infrastructure, match="Permission denied"):
        process.run([plain], limit_s=60)
    plain.chmod(plain.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(Infrastructure, match="Exec format error"):
        process.run([plain], limit_s=60)


def test_a_log_that_cant_be_written_ends_the_tool() -> None:
    if not Path("/dev/full").exists() or not shutil.which("sleep"):
        pytest.skip("needs /dev/full")
    with pytest.raises(Infrastructure, match="No space left") as caught:
        process.run(["sh", "-c", "echo text; sleep 300"], limit_s=300, log=Path("/dev/full"))
    assert caught.value.reason == "disk"
