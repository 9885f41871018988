"""Tools run as processes: bounded in time and output, and no process of theirs is left behind.

`run` calls one tool; nothing here knows which. `stopping` is the one flag that says this process
was asked to end: whoever waits, waits through it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runner import process_tree, scratch
from runner.errors import Infrastructure, Interrupted

# Set once when this process was asked to end; whoever waits polls it.
stopping = threading.Event()

POLL_S = 0.2
HEAD_BYTES = 256 * 1024
TAIL_BYTES = 64 * 1024
LOG_BYTES = 8 * 2**20
CHUNK_BYTES = 64 * 1024
# How a shell reports a child that was ended by SIGKILL.
SHELL_SIGKILL = 128 + signal.SIGKILL

Echo = Callable[[int, bytes], object]


class Kept:
    """The first `head_bytes` and the last `TAIL_BYTES` of a stream, whatever its length."""

    def __init__(self, head_bytes: int = HEAD_BYTES) -> None:
        self._head_bytes = head_bytes
        self._head, self._rest, self._dropped = bytearray(), bytearray(), 0

    def add(self, chunk: bytes) -> None:
        fits = max(0, self._head_bytes - len(self._head))
        self._head += chunk[:fits]
        self._rest += chunk[fits:]
        # Trimmed in large steps, so that a chatty tool costs one copy each 64 KiB.
        if len(self._rest) > 2 * TAIL_BYTES:
            self._dropped += len(self._rest) - TAIL_BYTES
            del self._rest[:-TAIL_BYTES]

    @property
    def text(self) -> str:
        """All that was kept; a line says where something is left out."""
        gap = f"\n[{self._dropped} bytes left out]\n".encode() if self._dropped else b""
        return (self._head + gap + self._rest).decode(errors="replace")

    @property
    def tail(self) -> str:
        """The last `TAIL_BYTES`."""
        return (self._head + self._rest)[-TAIL_BYTES:].decode(errors="replace")


@dataclass(frozen=True)
class Ended:
    """How one call of a tool ended.

    `exit_code` is None where a signal ended it, `over_limit` True where we did at the time limit.
    `stdout` and `stderr` hold head and tail of each stream, `log_tail` the end of both in the order
    they came. `seconds` is wall time.
    """

    argv: tuple[str, ...]
    exit_code: int | None
    signal: int | None
    over_limit: bool
    seconds: float
    stdout: str
    stderr: str
    stdout_tail: str
    stderr_tail: str
    log_tail: str

    @property
    def tool(self) -> str:
        return os.path.basename(self.argv[0])

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.over_limit

    @property
    def killed(self) -> bool:
        """Ended by somebody else's SIGKILL, as the kernel does when memory runs out."""
        return not self.over_limit and (self.signal == signal.SIGKILL or self.exit_code == SHELL_SIGKILL)


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    limit_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    echo: Echo | None = None,
) -> Ended:
    """Run one tool to its end or for `limit_s` seconds, without a shell and without standard input.

    Both streams go to the file `log` (its first `LOG_BYTES` and the end) and to `echo` as they come,
    there with the number of the descriptor they were written to, 1 or 2.
    Whatever happens, no process of the tool's tree is left. Raises Infrastructure where the tool can't be
    started or ended or the log can't be written, Interrupted once `stopping` is set.
    """
    check_stopping()
    words = tuple(os.fspath(word) for word in argv)
    started = time.monotonic()
    kept_out, kept_err, kept_both = Kept(), Kept(), Kept(0)
    with contextlib.ExitStack() as stack:
        written = _Log(log, stack)
        child = _start(words, cwd, env)
        assert child.stdout is not None
        assert child.stderr is not None
        stack.enter_context(child.stdout)
        stack.enter_context(child.stderr)

        def take(kept: Kept, chunk: bytes) -> None:
            kept.add(chunk)
            kept_both.add(chunk)
            written.add(chunk)
            if echo:
                echo(2 if kept is kept_err else 1, chunk)

        sinks = {child.stdout: kept_out, child.stderr: kept_err}
        try:
            over_limit = _pump(child, sinks, take, started + limit_s)
        finally:
            # Also on Ctrl-C, and when the tool ended well but left a child behind.
            process_tree.end(child, words[0])
        _drain(sinks, take)
        written.close(kept_both.tail)
    code = child.returncode
    return Ended(
        argv=words,
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        over_limit=over_limit,
        seconds=time.monotonic() - started,
        stdout=kept_out.text,
        stderr=kept_err.text,
        stdout_tail=kept_out.tail,
        stderr_tail=kept_err.tail,
        log_tail=kept_both.tail,
    )


def pause(seconds: float) -> None:
    """Sleep. Raises Interrupted as soon as `stopping` is set."""
    stopping.wait(max(0.0, seconds))
    check_stopping()


def check_stopping() -> None:
    """Raises Interrupted once `stopping` is set."""
    if stopping.is_set():
        raise Interrupted("asked to stop")


def _start(
    words: tuple[str, ...], cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    try:
        # A session of its own: Ctrl-C reaches us alone, and the whole group can be signalled at once.
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        where = error.filename if isinstance(error, OSError) and error.filename else words[0]
        raise Infrastructure(
            f"{words[0]} can't be started: {where}: {why}",
            remedy="check that it is there, executable, and made for this machine",
            reason="tool-not-started",
        ) from error


class _Log:
    """The log file of one call, if one is wanted: bounded, its middle left out."""

    def __init__(self, path: Path | None, stack: contextlib.ExitStack) -> None:
        self._path, self._written, self._left_out = path, 0, 0
        with self._writing():
            self._file = stack.enter_context(path.open("wb", buffering=0)) if path else None

    def add(self, chunk: bytes) -> None:
        if self._file is None:
            return
        fits = chunk[: max(0, LOG_BYTES - self._written)]
        with self._writing():
            self._file.write(fits)
        self._written += len(fits)
        self._left_out += len(chunk) - len(fits)

    def close(self, tail: str) -> None:
        if self._file is None or not self._left_out:
            return
        end = tail.encode()[-self._left_out :]
        gap = self._left_out - len(end)
        with self._writing():
            self._file.write((f"\n[{gap} bytes left out]\n".encode() if gap else b"") + end)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return scratch.writing(self._path) if self._path else contextlib.nullcontext()


def _pump(
    child: subprocess.Popen[bytes],
    sinks: Mapping[IO[bytes], Kept],
    take: Callable[[Kept, bytes], None],
    deadline: float,
) -> bool:
    """Move output until the child has exited (False) or `deadline` of the monotonic clock passed (True)."""
    with selectors.DefaultSelector() as selector:
        for stream, kept in sinks.items():
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, kept)
        idle_s = 0.001
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return True
            if not selector.get_map():
                # Both streams are closed: it exits within moments, or has become silent on purpose.
                idle_s = min(2 * idle_s, POLL_S)
                stopping.wait(min(idle_s, left_s))
            else:
                for key, _ in selector.select(min(POLL_S, left_s)):
                    chunk = os.read(key.fd, CHUNK_BYTES)
                    if chunk:
                        take(key.data, chunk)
                    else:
                        selector.unregister(key.fileobj)
            check_stopping()
            if _exited(child):
                return False


def _exited(child: subprocess.Popen[bytes]) -> bool:
    """Whether it has exited; it is left a zombie, so that its pid still is its group's and nobody else's."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _drain(sinks: Mapping[IO[bytes], Kept], take: Callable[[Kept, bytes], None]) -> None:
    """What was still in the pipes when everybody who wrote to them had ended."""
    for stream, kept in sinks.items():
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(stream.fileno(), CHUNK_BYTES):
                take(kept, chunk)
