"""Measure one task: a backend's raw windows become one Result; results become segments in the store.

`Recorder` is the only writer of results. A segment is written every 30 s (before a task begins and after
it ended), at the end of a lot and when the work is interrupted, so at most the measurement in flight is
lost, and where a process is killed what it measured in the 30 s before. On its way to a remote store a segment
lies in the `spool`.
"""

from __future__ import annotations

import datetime
import io
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from runner import provenance, stats
from runner.backends import Bench, ExportReport, Measurement, Window
from runner.errors import Infrastructure, PointFailed
from runner.plan import Plan, Task
from runner.result import CONTENDED, LOG_TAIL_BYTES, MISSING, OK, SEGMENT_SUFFIX, Result, encode_segment

FLUSH_S = 30.0
# ... or as soon as so many are held: readers refuse segments that are too large (`result.SEGMENT_BYTES`).
FLUSH_ROWS = 10_000
# Latency samples kept raw per window; the statistics use all of them.
KEPT_SAMPLES = 100_000
# Of the segments of this process, whatever their lot: with the writer's name they make keys unique.
_numbers = itertools.count()

Windows = Sequence[Window]
_NO_ARTIFACTS: Mapping[str, Any] = MappingProxyType({})


def measure_task(
    bench: Bench,
    task: Task,
    graph: Path,
    binary: Path | None,
    report: ExportReport,
    artifacts: Mapping[str, Any],
) -> tuple[Result, Windows]:
    """Measure a task; whatever goes wrong with it becomes its result. `artifacts` are the fields of a result
    that say what was measured: export_key, graph_digest, binary_key."""
    started = time.monotonic()
    started_at = _now()
    try:
        measured = bench.measure(task.cell, graph / "model.onnx", binary, report)
    except PointFailed as failure:
        return _failed(task, failure, started_at, time.monotonic() - started, artifacts), ()
    except Infrastructure as error:
        return not_obtained(task, error, "run", started_at, time.monotonic() - started, artifacts), ()
    device_s = time.monotonic() - started
    return _result(task, measured, report, started_at, device_s, artifacts), measured.windows


def unmeasured(task: Task, failure: PointFailed) -> Result:
    """The result of a task whose graph or binary could not be made."""
    return _failed(task, failure, _now(), 0.0)


def _result(
    task: Task,
    measured: Measurement,
    report: ExportReport,
    started_at: str,
    device_s: float,
    artifacts: Mapping[str, Any],
) -> Result:
    summary = stats.summarise(measured.windows)
    cell = task.cell
    warnings = list(measured.warnings)
    law = stats.littles_law_ratio(
        summary, instances=cell.instances, set_size=cell.set_size, batch=cell.batch_size
    )
    low, high = stats.LITTLES_LAW_RANGE
    if law is not None and not low <= law <= high:
        warnings.append(f"littles-law {law:.2f}")
    if summary.latency_p95_s is None:
        warnings.append(f"p95 needs more than {summary.latency_n} samples")
    check = measured.check
    return Result(
        slot=task.slot,
        epoch=task.epoch,
        status=OK,
        started_at=started_at,
        device_s=device_s,
        reason=CONTENDED if measured.contended else "",
        message=measured.contended,
        warnings="; ".join(warnings),
        throughput_images_s=summary.throughput_images_s,
        throughput_ci95_images_s=summary.throughput_ci95,
        throughput_std_images_s=summary.throughput_std,
        throughput_n=summary.throughput_n,
        latency_mean_s=summary.latency_mean_s,
        latency_min_s=summary.latency_min_s,
        latency_p50_s=summary.latency_p50_s,
        latency_p90_s=summary.latency_p90_s,
        latency_p95_s=summary.latency_p95_s,
        latency_p95_ci95_s=summary.latency_p95_ci95,
        latency_p99_s=summary.latency_p99_s,
        latency_max_s=summary.latency_max_s,
        latency_n=summary.latency_n,
        device=measured.device,
        gate_s=measured.gate_s,
        load_s=measured.load_s,
        warmup_s=measured.warmup_s,
        peak_memory_bytes=measured.peak_memory_bytes,
        weights_name=report.weights,
        weights_revision=report.revision,
        clipped_values=report.clipped_values,
        max_abs_error=report.max_abs_error,
        relative_error=report.relative_error,
        **({f"output_{name}": value for name, value in vars(check).items()} if check else {}),
        input_digest=measured.input_digest,
        output_digest=measured.output_digest,
        facts=orjson.dumps(dict(measured.facts), option=orjson.OPT_SORT_KEYS).decode()
        if measured.facts
        else "",
        **artifacts,
    )


def _failed(
    task: Task,
    failure: PointFailed,
    started_at: str,
    device_s: float,
    artifacts: Mapping[str, Any] = _NO_ARTIFACTS,
) -> Result:
    message = f"{failure.message} ({failure.remedy})" if failure.remedy else failure.message
    return Result(
        slot=task.slot,
        epoch=task.epoch,
        status=failure.verdict,
        started_at=started_at,
        device_s=device_s,
        stage=failure.stage,
        reason=failure.reason,
        message=message[:1000],
        log_tail=failure.log_tail[-LOG_TAIL_BYTES:],
        **artifacts,
    )


def not_obtained(
    task: Task,
    error: Infrastructure,
    stage: str,
    started_at: str = "",
    device_s: float = 0.0,
    artifacts: Mapping[str, Any] = _NO_ARTIFACTS,
) -> Result:
    """The result of a task that something around it kept from being measured; it stays wanted."""
    return Result(
        slot=task.slot,
        epoch=task.epoch,
        status=MISSING,
        started_at=started_at or _now(),
        device_s=device_s,
        stage=stage,
        reason=error.reason,
        message=str(error).replace("\n ", "")[:1000],
        **artifacts,
    )


class Keeper(Protocol):
    """What takes a recorder's objects over: a Store, or the Spool in front of one."""

    def keep(self, key: str, data: bytes) -> None: ...


class Recorder:
    """Writes the results of one lot as segments `results/<plan>/<lot>/<writer>-<n>.csv.zst`."""

    def __init__(
        self,
        keeper: Keeper,
        plan: Plan,
        lot: int,
        writer: str,
        tools: Mapping[str, str],
        node: str = "",
    ) -> None:
        self._keeper = keeper
        self._folder = f"{plan.digest}/{lot:05d}"
        self._header = {
            "plan": plan.digest,
            "lot": lot,
            "round": plan.round,
            "writer": writer,
            "node": node,
            "tools": dict(tools),
            **provenance.host(),
        }
        self._writer = writer
        self._results: list[Result] = []
        self._samples: list[tuple[str, int, stats.Samples]] = []
        self._number = next(_numbers)
        self._flushed = time.monotonic()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except KeyboardInterrupt:
            # The first one; what was being written is written again, under the same name.
            self.flush()
            raise

    def add(self, result: Result) -> None:
        self._results.append(result)
        self.flush_if_due()

    def keep_samples(self, slot: str, windows: Windows) -> None:
        """Keep raw latencies (seconds per inference) beside the results."""
        self._samples += [
            (slot, number, window.latencies_s[:KEPT_SAMPLES]) for number, window in enumerate(windows)
        ]

    def flush_if_due(self) -> None:
        """Write what is held if the last segment was 30 s ago, or if it is much."""
        if time.monotonic() - self._flushed >= FLUSH_S or len(self._results) >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Hand over what is held. Raises StoreError: a result that can't be kept is a failure, not a log line."""
        if self._results:
            name = f"{self._folder}/{self._writer}-{self._number}"
            try:
                if self._samples:
                    self._keeper.keep(f"raw/{name}.parquet", _encode_samples(self._samples))
            finally:
                # Whatever became of the samples: results are what must not be lost.
                self._keeper.keep(
                    f"results/{name}{SEGMENT_SUFFIX}", encode_segment(self._header, self._results)
                )
            self._results, self._samples, self._number = [], [], next(_numbers)
        self._flushed = time.monotonic()


def _encode_samples(samples: Sequence[tuple[str, int, stats.Samples]]) -> bytes:
    slots, windows, latencies = zip(*samples, strict=True)
    lengths = [len(some) for some in latencies]
    distinct = list(dict.fromkeys(slots))
    place = {slot: index for index, slot in enumerate(distinct)}
    indices = np.repeat(np.array([place[slot] for slot in slots], dtype=np.int32), lengths)
    columns = {
        "slot": pa.DictionaryArray.from_arrays(indices, pa.array(distinct)),
        "window": np.repeat(np.array(windows, dtype=np.int16), lengths),
        "latency_s": np.concatenate(latencies).astype(np.float32),
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
