"""Hears all that a Sweep's status says, and finds what was not so. One who has gone deaf is no witness: that fails."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.cluster.cluster import until
from tests.cluster.oracle import find_lies


class Witness:
    """Of one Sweep, as `kubectl get --watch -o json` prints it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lies: list[str] = []
        self._version = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._listen, name="witness", daemon=True)
        self._thread.start()

    def lies_until(self, version: str) -> list[str]:
        """All lies, once that resource version was heard. Raises what listening raised, and AssertionError where the
        watch has ended before."""

        def heard() -> bool:
            # Looked at first: what was heard before the end counts.
            here = self._process.poll() is None and self._thread.is_alive()
            if self._error is not None:
                raise self._error
            if self._version >= int(version):
                return True
            assert here, f"the watch has ended at version {self._version}, before {version}"
            return False

        until(heard, f"version {version} is heard")
        return list(self._lies)

    def leave(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def _listen(self) -> None:
        before: Any = None
        lines: list[str] = []
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                lines.append(line)
                if line == "}\n":
                    sweep = json.loads("".join(lines))
                    self._lies += find_lies(before, sweep)
                    before, lines = sweep, []
                    self._version = int(sweep["metadata"]["resourceVersion"])
        except BaseException as error:
            self._error = error


@contextmanager
def witness(watch: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Witness]:
    """While the command `watch` runs."""
    process = subprocess.Popen(watch, env=environment, stdout=subprocess.PIPE, text=True)
    heard = Witness(process)
    try:
        yield heard
    finally:
        heard.leave()
