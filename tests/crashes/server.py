"""A process that has all imported and forks runs of `aicsweep`, each with its points, where it may be killed.

    python -m tests.crashes.server: a line of JSON in, {"arguments", "folder", "environment", "strikes", "signal"},
    one out, {"code"}

A point is the moment before a call of the store, after one that writes, between the writing of a file and
its being given its name, and every word on progress. The run appends each to `points` in its folder, and what
it compiles and measures to `work`. At the points numbered in `strikes` (from 1) it gets the signal.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

READS = ("get", "exists", "list", "folders")
WRITES = ("put", "put_new", "delete")


class Points:
    """Counts the points that a run comes by; kills it at one."""

    def __init__(self, folder: Path, strikes: list[int], number: int) -> None:
        self._folder, self._strikes, self._signal = folder, strikes, number
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def come_by(self, name: str) -> None:
        with self._lock:
            self.note("points", name)
            struck = next(self._numbers) in self._strikes
        if struck:
            os.kill(os.getpid(), self._signal)

    def note(self, file: str, text: str) -> None:
        """A line that is there whatever happens next."""
        descriptor = os.open(self._folder / file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)

    def put_in(self, *, deleting: bool) -> None:
        """Into what a run is made of."""
        from runner import measure, progress, store, store_check, transfer
        from runner.backends import fake

        # Each result is kept at once: what else a kill may cost is the measurement in flight.
        measure.FLUSH_S = 0.0
        for name in READS:
            self._around(store.Store, name, f"{name} {{1}}")
        self._around(store_check, "check", "check")
        for name in ("download", "stream"):
            self._around(transfer, name, f"{name} {{1}}")
        for name in WRITES:
            self._around(store.Store, name, f"{name} {{1}}", after=True)
        for name in ("replace", "hardlink_to"):
            self._around(Path, name, "name {0.name}")
        if deleting:
            # Each file of a bulk deletion.
            self._around(Path, "unlink", "unlink {0.name}")
        for name in ("stage", "step"):
            self._around(progress.Lines, name, f"{name} {{1}}")
        compile_, measured = fake.compile, fake.FakeBench.measure

        def compiling(cell: Any, graph: Path, folder: Path) -> None:
            self.note("work", f"compile {graph.read_bytes()!r} {fake.compile_flags(cell)}")
            compile_(cell, graph, folder)

        def measuring(bench: Any, cell: Any, *rest: Any) -> Any:
            self.note("work", f"measure {cell}")
            return measured(bench, cell, *rest)

        fake.compile = compiling
        fake.FakeBench.measure = measuring  # type: ignore[method-assign]

    def _around(self, owner: Any, name: str, words: str, *, after: bool = False) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            said = words.format(*args, "")
            self.come_by(f"before {said}")
            answer = call(*args, **kwargs)
            if after:
                self.come_by(f"after {said}")
            return answer

        setattr(owner, name, counted)


def _child(order: dict[str, Any]) -> None:
    """In the fork: be `aicsweep`. Never returns."""
    code = 70
    try:
        folder = Path(order["folder"])
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(folder)
        Points(folder, order["strikes"], order["signal"]).put_in(deleting=order["arguments"][0] == "gc")
        from runner.cli import main

        sys.argv = ["aicsweep", *order["arguments"]]
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def serve() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _child(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def _read_service_models_once() -> None:
    """botocore's files on S3, a quarter of a second of each run."""
    import boto3
    from botocore.loaders import JSONFileLoader

    load = functools.cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda self, path: load(path)  # type: ignore[method-assign]
    boto3.session.Session("none", "none").client("s3", region_name="us-east-1")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # All that a run imports on its way.
    for module in (
        "_strptime", "boto3.session", "botocore.credentials", "obstore.store", "pandas.io.formats.csvs",
        "pyarrow.parquet", "rich.table", "rich.text", "scipy.stats", "yaml", "runner.backends.fake", "runner.cli",
        "runner.collect", "runner.engine", "runner.sweepfile", "runner.tables", "runner.terminal",
    ):  # fmt: skip
        importlib.import_module(module)
    importlib.import_module("runner.lut").shipped()
    _read_service_models_once()
    serve()
