"""The `onnxruntime` backend: this host's CPU as the device under test.

    measure   one process per instance on its own physical cores (`instance_group`, `instance`)
              load and run once -> warm up together -> windows at common times -> report
              windows are cut from completion times afterwards (`closed_loop`)

Loading the graph compiles it, so there is no compile stage. Nothing else may run meanwhile;
what runs all the same is measured and said (`host-busy`).
"""

from __future__ import annotations

import itertools
import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from runner.backends import (
    Bench,
    Capacity,
    Device,
    Estimate,
    Exporter,
    ExportReport,
    Measurement,
    Window,
    chosen,
    closed_loop,
    host_cpu,
    instance_group,
    instance_server,
)
from runner.backends.host_load import BUSY_SHARE, HostLoad, Reading, others_share
from runner.backends.instance import Drive, Driven, Finished, Job, Loaded, now_ns
from runner.cells import Cell
from runner.errors import AicsweepError, Infeasible, Infrastructure, PointFailed

NAME = "onnxruntime"
EMULATED = False
COMPILES_ON: Literal["host", "target"] = "target"
PRECISIONS: Sequence[str] = ("fp32",)
PARAMETERS = frozenset(
    {
        "source",
        "weights",
        "image_size",
        "opset",
        "precision",
        "backend",
        "batch_size",
        "cores",
        "instances",
        "set_size",
        "seconds",
        "repeats",
    }
)

HOST_BUSY = "host-busy"
LOAD_LIMIT_S = 600.0
INPUT_MEMORY_LIMIT = 2**30
# A window too short for a slow model is extended, up to the larger of these.
LONGEST_WINDOW_S, LONGEST_WINDOW_FACTOR = 60.0, 10.0
# Warm-up ends after a second at most (less for shorter windows) and two inferences at least: the first
# fills the memory arena, the second shows the pace.
WARMUP_S, WARMUP_INFERENCES = 1.0, 2
# Pace differs between warm-up and windows; a window planned this much longer is rarely run again.
PACE_MARGIN = 1.25
TRIES = 3
# From the order to start until the first window opens: the order arrives and the loops run.
LEAD_NS = 20_000_000
# Over the planned end of a phase, for one late inference and the answer's way.
GRACE_S = 30.0


def capacity(hardware: str) -> Capacity:
    """Usable physical cores of this host; `hardware` names cards and means nothing here."""
    return host_cpu.usable().capacity


def estimate(cell: Cell) -> Estimate:
    """A guess: 2 s to start and load (0.3 s for a small CNN, 5 s for the largest), warm-up, 0.5 s to end."""
    return Estimate(overhead_s=2.0 + min(WARMUP_S, cell.seconds) + 0.5)


def open_exporter() -> AbstractContextManager[Exporter]:
    """The common exporter; imported here so that measuring needs nothing of it."""
    from runner.stages import export

    return export.open_exporter()


def compile_flags(cell: Cell) -> list[str]:
    return []


def compiler_version() -> str:
    return f"onnxruntime-{provenance()['onnxruntime']}"


def compile(cell: Cell, graph: Path, folder: Path) -> None:
    raise AicsweepError("the onnxruntime backend has no compile stage: loading a graph compiles it")


def provenance() -> Mapping[str, str]:
    from runner.backends import ort_session

    return ort_session.versions()


def devices(wanted: str) -> Sequence[Device]:
    """This host's CPU, one device whatever it has of cores."""
    return chosen([Device("cpu", socket.gethostname())], wanted)


@contextmanager
def open_bench(device: Device) -> Iterator[Bench]:
    """A bench on this host. Opening starts the server of instances; these live only inside `measure`."""
    with instance_server.opened() as server:
        yield CpuBench(server, device)


class CpuBench:
    """Measures cells one after the other on this host's CPU."""

    def __init__(self, server: instance_server.InstanceServer, device: Device) -> None:
        self._server, self._device = server, device

    def measure(self, cell: Cell, graph: Path, binary: Path | None, report: ExportReport) -> Measurement:
        """See `Bench.measure`. Raises Infeasible (`unfit`, `input-memory`) and PointFailed (`too-slow`,
        `time-limit`, `killed`, `run-error`, `wrong-output`), all of stage `run`."""
        host = host_cpu.usable()
        _check_fit(cell, host)
        jobs = _jobs(cell, graph, report, host)
        began = now_ns()
        with instance_group.running(self._server, jobs) as group:
            loaded = group.answers(Loaded, LOAD_LIMIT_S, "loading the graph")
            ready = now_ns()
            service_s = _warm_up(cell, group)
            warm = now_ns()
            load = HostLoad(_threads(host, cell), group.pids)
            observed = _observe(cell, group, service_s, load)
            group.tell(None)
            finished = group.answers(Finished, GRACE_S, "ending")
        return Measurement(
            windows=observed.windows,
            load_s=(ready - began) * 1e-9,
            warmup_s=(warm - ready) * 1e-9,
            device=self._device.target,
            peak_memory_bytes=sum(answer.peak_memory_bytes for answer in finished),
            input_digest=loaded[0].input_digest,
            output_digest=loaded[0].output_digest,
            output=loaded[0].output,
            warnings=(HOST_BUSY,) if max(observed.others) > BUSY_SHARE else (),
            facts={
                "spinning": "on" if jobs[0].spinning else "off",
                "pinned": "|".join(",".join(map(str, job.cpus)) for job in jobs),
                "others_load": f"{max(observed.others):.3f}",
            },
        )


@dataclass(frozen=True)
class _Observed:
    """Windows of one measurement and, for each, the share of its cores that others used."""

    windows: Sequence[Window]
    others: Sequence[float]


def _check_fit(cell: Cell, host: host_cpu.HostCpu) -> None:
    needed = cell.cores * cell.instances
    if needed > len(host.cores):
        raise Infeasible(
            "run",
            "unfit",
            f"{cell.instances} instances of {cell.cores} cores need {needed} cores; there are {host.reason}",
        )
    size = cell.set_size * math.prod(_shape(cell)) * np.dtype(np.float32).itemsize
    if size > INPUT_MEMORY_LIMIT:
        raise Infeasible(
            "run",
            "input-memory",
            f"{cell.set_size} distinct inputs of batch {cell.batch_size} take {size / 2**30:.1f} GiB"
            f" an instance; the limit is {INPUT_MEMORY_LIMIT / 2**30:g} GiB",
            remedy="use a smaller set size, batch or image",
        )


def _shape(cell: Cell) -> tuple[int, ...]:
    return (cell.batch_size, 3, cell.image_size, cell.image_size)


def _jobs(cell: Cell, graph: Path, report: ExportReport, host: host_cpu.HostCpu) -> list[Job]:
    # A waiting thread that spins on a core another instance needs costs that one its pace; with all
    # cores in use even the parent has nowhere else to go.
    spinning = cell.cores * cell.instances < len(host.cores)
    cpus = [core.cpu for core in host.cores]
    return [
        Job(
            graph=graph,
            input_name=report.input_name,
            output_name=report.output_name,
            shape=_shape(cell),
            buffers=cell.set_size,
            cpus=tuple(cpus[index * cell.cores : (index + 1) * cell.cores]),
            spinning=spinning,
        )
        for index in range(cell.instances)
    ]


def _threads(host: host_cpu.HostCpu, cell: Cell) -> frozenset[int]:
    """All hardware threads of the cores in use: a sibling that others keep busy slows its core as well."""
    return frozenset().union(*(core.threads for core in host.cores[: cell.cores * cell.instances]))


def _longest_window_s(cell: Cell) -> float:
    return max(LONGEST_WINDOW_S, LONGEST_WINDOW_FACTOR * cell.seconds)


def _warm_up(cell: Cell, group: instance_group.Group) -> float:
    """All instances run together for a while; returns seconds per inference of the slowest's second half."""
    seconds = min(WARMUP_S, cell.seconds)
    group.tell(Drive(now_ns() + int(seconds * 1e9), at_least=WARMUP_INFERENCES))
    limit = seconds + WARMUP_INFERENCES * _longest_window_s(cell) + GRACE_S
    runs = [_times(answer) for answer in group.answers(Driven, limit, "warming up")]
    return max(float(np.diff(times[len(times) // 2 :]).mean()) * 1e-9 for times in runs)


def _observe(cell: Cell, group: instance_group.Group, service_s: float, load: HostLoad) -> _Observed:
    """The windows, long enough that every instance completes whole requests in each."""
    longest_s = _longest_window_s(cell)
    needed_s = closed_loop.window_needed_s(service_s, cell.set_size)
    length_s = max(cell.seconds, min(needed_s * PACE_MARGIN, longest_s))
    for _ in range(TRIES):
        if needed_s > longest_s:
            raise PointFailed(
                "run",
                "too-slow",
                f"{cell.set_size} requests in flight at {service_s:.3g} s an inference need a window of"
                f" {needed_s:.0f} s; the longest for measure.seconds {cell.seconds:g} is {longest_s:.0f} s",
                remedy="raise measure.seconds, or use a smaller batch or set size",
            )
        run = _run(cell, group, int(length_s * 1e9), load)
        if run.late:
            continue
        if run.fewest_whole(cell.set_size) >= closed_loop.MIN_WHOLE_REQUESTS:
            return run.observed(cell)
        # Slower than while warming up.
        needed_s = length_s = length_s * 2
    raise Infrastructure(
        f"the host is too busy to measure: {TRIES} times an instance started late or lost its pace",
        remedy="end what else runs on these cores",
    )


@dataclass(frozen=True)
class _Run:
    """Completion times of one run through all windows, and the readings taken at their edges."""

    times: Sequence[closed_loop.Times]
    edges: Sequence[int]
    readings: Sequence[Reading]

    @property
    def late(self) -> bool:
        """An instance was not yet running when the first window opened."""
        return any(times[0] > self.edges[0] for times in self.times)

    def fewest_whole(self, set_size: int) -> int:
        return closed_loop.fewest_whole(self.times, set_size=set_size, edges=self.edges)

    def observed(self, cell: Cell) -> _Observed:
        windows = closed_loop.cut(self.times, set_size=cell.set_size, batch=cell.batch_size, edges=self.edges)
        cores = cell.cores * cell.instances
        others = [
            others_share(before, after, cores=cores) for before, after in itertools.pairwise(self.readings)
        ]
        return _Observed(windows, others)


def _run(cell: Cell, group: instance_group.Group, length: int, load: HostLoad) -> _Run:
    """Run through all windows of `length` ns."""
    opened = now_ns() + LEAD_NS
    edges = [opened + length * index for index in range(cell.repeats + 1)]
    group.tell(Drive(edges[-1]))
    readings = []
    for edge in edges:
        if not group.quiet_until(edge) and edge != edges[-1]:
            # Nobody answers before the last edge but with a failure; `answers` raises it.
            break
        readings.append(load.read())
    limit = _longest_window_s(cell) + GRACE_S
    times = [_times(answer) for answer in group.answers(Driven, limit, "waiting for the windows to end")]
    return _Run(times, edges, readings)


def _times(answer: Driven) -> closed_loop.Times:
    return np.frombuffer(answer.completed, dtype=np.int64)
