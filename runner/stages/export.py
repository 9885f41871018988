"""The export stage: a request becomes `model.onnx`, in a worker of its own.

Workers are forked from a server that imported torch once, so an export starts at once, gives its
memory back, and a crash costs one model. This module and its callers never import torch.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from runner import process, scratch
from runner.backends import ExportReport
from runner.catalogue import HUGGING_FACE, ONNX
from runner.errors import AicsweepError, BadInput, PointFailed, Problem
from runner.keys import ExportRequest
from runner.result import LOG_TAIL_BYTES

# Raised by hand whenever the same packages would write another graph.
EXPORTER_REVISION = "2"
TIME_LIMIT_S = 900.0
PACKAGES = ("torch", "torchvision", "transformers", "onnx")


class Workers:
    """Answers export requests, each in a forked worker with a time limit in seconds."""

    def __init__(self, time_limit_s: float = TIME_LIMIT_S) -> None:
        self.time_limit_s = time_limit_s
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["runner.stages.graph"])

    def versions(self, request: ExportRequest) -> Mapping[str, str]:
        kind = request.source.partition(":")[0]
        used = {ONNX: ("onnx",), HUGGING_FACE: ("torch", "transformers", "onnx")}
        packages = used.get(kind, ("torch", "torchvision", "onnx"))
        return {
            "exporter": EXPORTER_REVISION,
            **{name: importlib.metadata.version(name) for name in packages},
        }

    def export(self, request: ExportRequest, folder: Path) -> ExportReport:
        with scratch.temporary() as files:
            log, answer = files / "log", files / "answer"
            worker = self._context.Process(target=_work, args=(request, folder, log, answer), daemon=True)
            worker.start()
            try:
                deadline = time.monotonic() + self.time_limit_s
                # In steps: a join in another thread than the first is not ended by Ctrl-C.
                while worker.is_alive() and time.monotonic() < deadline:
                    worker.join(min(process.POLL_S, self.time_limit_s))
                    process.check_stopping()
                if worker.is_alive():
                    raise PointFailed(
                        "export", "time-limit", f"{request.source} took more than {self.time_limit_s:g} s",
                        log_tail=_tail(log),
                    )  # fmt: skip
            finally:
                worker.kill()
                worker.join()
            if worker.exitcode == os.EX_IOERR:
                raise scratch.disk_error(str(files), "the exporter could not leave its answer there")
            if not answer.exists():
                raise _died(request, worker.exitcode or 0, _tail(log))
            tail = _tail(log)
            report: ExportReport | AicsweepError = pickle.loads(answer.read_bytes())
        if isinstance(report, PointFailed) and not report.log_tail:
            raise type(report)(
                report.stage, report.reason, report.message, remedy=report.remedy, log_tail=tail
            )
        if isinstance(report, AicsweepError):
            raise report
        return replace(report, versions=dict(self.versions(request)))


@contextlib.contextmanager
def open_exporter(time_limit_s: float = TIME_LIMIT_S) -> Iterator[Workers]:
    """Workers for many exports. Raises BadInput where torch and its companions are not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        # The fork server would ignore it and every worker fail by itself.
        remedy = "pip install 'aicsweep[export]', or run where the exports are in the store already"
        raise BadInput([Problem("", f"export needs {', '.join(missing)}, not installed here", remedy)])
    yield Workers(time_limit_s)


def _work(request: ExportRequest, folder: Path, log: Path, answer: Path) -> None:
    """In the worker: everything printed goes to `log`, the report or the error to `answer`."""
    # Ctrl-C reaches the whole group; the parent decides, and kills.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from runner.stages import graph

    outcome: ExportReport | AicsweepError
    try:
        outcome = graph.write(request, folder)
    except AicsweepError as error:
        outcome = error
    except OSError as error:
        outcome = _of_files(request, error)
    except Exception as error:
        # torch and onnx raise whatever they like for a model they can't translate.
        outcome = _export_error(request, error)
    sys.stderr.flush()
    part = answer.with_suffix(".part")
    try:
        part.write_bytes(pickle.dumps(outcome))
        part.rename(answer)
    except OSError:
        # There is no room to say so.
        os._exit(os.EX_IOERR)


def _of_files(request: ExportRequest, error: OSError) -> AicsweepError:
    """Of a host without room the model learns nothing: it is no verdict."""
    if error.errno in scratch.NO_ROOM:
        return scratch.disk_error(f"the graph of {request.source}", error.strerror or str(error))
    return _export_error(request, error)


def _export_error(request: ExportRequest, error: Exception) -> PointFailed:
    traceback.print_exc()
    text = str(error).strip().splitlines()
    return PointFailed(
        "export", "export-error", f"{request.source}: {text[0][:300] if text else type(error)}"
    )


def _died(request: ExportRequest, exit_code: int, log_tail: str) -> PointFailed:
    how = f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"
    remedy = (
        "out of memory? about 4 GiB are needed for the largest models" if exit_code == -signal.SIGKILL else ""
    )
    message = f"the worker exporting {request.source} ended {how}"
    return PointFailed("export", "killed", message, remedy=remedy, log_tail=log_tail)


def _tail(log: Path) -> str:
    try:
        return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""
