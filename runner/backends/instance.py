"""The process of one instance: pin, load, then run the loop as often as the bench asks, and report.

Talks over one pipe: the first message is `Loaded`, then each `Drive` is answered by `Driven`,
and the end (None) by `Finished`. Anything that goes wrong is sent as a PointFailed instead.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.backends import ort_session
from runner.backends.closed_loop import drive
from runner.errors import PointFailed


@dataclass(frozen=True)
class Job:
    """What one instance runs and on which CPUs; `shape` is the input's, `buffers` how many distinct ones."""

    graph: Path
    input_name: str
    output_name: str
    shape: tuple[int, ...]
    buffers: int
    cpus: tuple[int, ...]
    spinning: bool


@dataclass(frozen=True)
class Loaded:
    """The graph is loaded and has run once: the first output, digests of all inputs and of it."""

    input_digest: str
    output_digest: str
    output: npt.NDArray[Any]


@dataclass(frozen=True)
class Drive:
    """Run from now until `until_ns` (time.perf_counter_ns) has passed and `at_least` inferences are done."""

    until_ns: int
    at_least: int = 1


@dataclass(frozen=True)
class Driven:
    """Start and completions in ns, int64 as bytes: a list would cost the parent a second per ten million."""

    completed: bytes


@dataclass(frozen=True)
class Finished:
    """Peak of resident memory over the process's life, the interpreter's own (about 60 MB) included."""

    peak_memory_bytes: int


def serve(job: Job, pipe: Connection, life: Connection) -> None:
    """Entry point of the process; `life` is a pipe whose other end only the parent holds."""
    die_with_parent(life)
    try:
        _answer(job, pipe)
    except (EOFError, BrokenPipeError):
        # The parent is gone or has no more questions.
        return
    except PointFailed as failed:
        pipe.send(failed)
    except Exception as error:  # the process's border: ONNX Runtime's errors share no base class
        text = f"{type(error).__name__}: {error}"
        pipe.send(PointFailed("run", "run-error", f"ONNX Runtime can't run the graph: {text}"))


def _answer(job: Job, pipe: Connection) -> None:
    # Before the session exists: its threads inherit the mask.
    os.sched_setaffinity(0, job.cpus)
    inputs = ort_session.normal_inputs(job.buffers, job.shape)
    session = ort_session.open_session(
        job.graph,
        input_name=job.input_name,
        output_name=job.output_name,
        inputs=inputs,
        cores=len(job.cpus),
        spinning=job.spinning,
    )
    _check_finite(session)
    # A collection inside a window would be a pause of the harness in somebody's latency.
    gc.freeze()
    gc.disable()
    first = session.outputs[0]
    pipe.send(Loaded(ort_session.digest(inputs), ort_session.digest([first]), first))
    while (asked := pipe.recv()) is not None:
        completed = drive(session.infer, session.requests, asked.until_ns, asked.at_least)
        pipe.send(Driven(completed.tobytes()))
    _check_finite(session)
    # Linux reports kibibytes.
    pipe.send(Finished(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def _check_finite(session: ort_session.Session) -> None:
    for index, output in enumerate(session.outputs):
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            bad = int(output.size - np.isfinite(output).sum())
            raise PointFailed(
                "run",
                "wrong-output",
                f"{bad} of {output.size} output values for input {index} are not finite",
                remedy="look at the exported graph: weights or activations overflow fp32",
            )


def die_with_parent(life: Connection) -> None:
    """Have the kernel end this process as soon as the parent is gone, whatever it is doing then.

    The hang-up of `life` raises SIGIO, whose default is to terminate. A thread waiting for the
    end of file would not do: loading a graph holds the interpreter's lock for as long as it takes.
    The owner of SIGIO belongs to the open pipe, not to a process: each instance needs its own.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    descriptor = life.fileno()
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    if life.poll(0):
        # Gone before we listened: nothing is ever written to this pipe, so it can only be its end.
        os._exit(1)


def now_ns() -> int:
    """The clock of every message: CLOCK_MONOTONIC, one for all processes of a Linux host."""
    return time.perf_counter_ns()
