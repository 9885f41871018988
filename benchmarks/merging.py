"""Merging: results of a sweep joined to its plan, winners chosen, rivals ranked. Segments of 50 results each."""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks import planning
from runner import engine, provenance, tables
from runner import merge as merging
from runner.plan import Plan, read_plan
from runner.planfile import in_a_lot
from runner.result import SEGMENT_SUFFIX, Result, encode_segment
from runner.store import open_store

SEGMENT_ROWS = 50
NOT_IN_THE_TABLE = ["lot", "position", "row"]


def results(plan: Plan) -> Iterator[tuple[dict[str, Any], list[Result]]]:
    """Header and results of each segment: one result a slot, in the order of the lots."""
    random = np.random.default_rng(1)
    todo = plan.columns("lot", "slot", "export", "binary", where=in_a_lot)
    columns = (todo[name].cast(pa.string()).to_pylist() for name in ("slot", "export", "binary"))
    rows = zip(*columns, strict=True)
    for number in itertools.count():
        part = list(itertools.islice(rows, SEGMENT_ROWS))
        if not part:
            return
        header = {"plan": plan.digest, "lot": number, "round": 1, "writer": uuid.uuid4().hex,
                  "tools": {"fake": "1"}, **provenance.host()}  # fmt: skip
        drawn = random.random((len(part), 16)).tolist()
        yield header, [_result(number, *row, values) for row, values in zip(part, drawn, strict=True)]


def _result(number: int, slot: str, export: str, binary: str, drawn: list[float]) -> Result:
    """As the onnxruntime backend fills them in; output digests are shared by the cells of a binary."""
    latency_s = [value / 100 for value in drawn]
    digest = hashlib.sha256(binary.encode()).hexdigest()
    started_at = f"2026-01-01T{number % 24:02}:{number % 60:02}:00.{int(drawn[0] * 999):03}+00:00"
    return Result(
        slot=slot, epoch=0, status="ok", started_at=started_at,
        device_s=100 + drawn[0], throughput_images_s=1000 * drawn[1], throughput_ci95_images_s=drawn[2],
        throughput_std_images_s=drawn[3], throughput_n=5, latency_mean_s=latency_s[4], latency_min_s=latency_s[5],
        latency_p50_s=latency_s[6], latency_p90_s=latency_s[7], latency_p95_s=latency_s[8],
        latency_p95_ci95_s=latency_s[9] / 100, latency_p99_s=latency_s[10], latency_max_s=latency_s[11],
        latency_n=12_345, device="fake-0", load_s=drawn[12], warmup_s=drawn[13], peak_memory_bytes=int(drawn[14] * 1e9),
        export_key=export, graph_digest=export * 2, binary_key=binary, weights_name="random", clipped_values=0,
        max_abs_error=drawn[15] * 1e-5, relative_error=drawn[15] * 1e-6, input_digest=digest, output_digest=digest,
    )  # fmt: skip


def write_store(count: int, folder: Path) -> int:
    """A plan and its results as the product writes them, in a folder store."""
    plan = planning.planned(planning.a_sweep(count))
    (folder / "plan.parquet").write_bytes(plan.data)
    store = open_store(str(folder / "store"))
    done = 0
    for header, some in results(plan):
        key = f"results/{plan.digest}/{header['lot']:05}/{header['writer']}-0{SEGMENT_SUFFIX}"
        store.put_new(key, encode_segment(header, some))
        done += len(some)
    return done


def merge(count: int, folder: Path) -> int:
    plan = read_plan((folder / "plan.parquet").read_bytes())
    return int(merging.merge(plan, engine.read_results(open_store(str(folder / "store")))).num_rows)


def merge_and_publish(count: int, folder: Path) -> int:
    """All that `aicsweep merge` does: Parquet, CSV, summary and manifest besides."""
    plan = read_plan((folder / "plan.parquet").read_bytes())
    store = open_store(str(folder / "store"))
    found = engine.read_results(store)
    table = merging.merge(plan, found)
    tables.publish(store, plan, found, table)
    return int(table.num_rows)


def write_objects(count: int, folder: Path) -> int:
    """The same plan as one JSON file, the same results as one JSON file each."""
    plan = _write_plan(count, folder)
    done = 0
    for header, some in results(plan):
        at = folder / "results" / str(header["lot"])
        at.mkdir(parents=True)
        for result in some:
            (at / f"{result.slot}.json").write_text(json.dumps({**header, **asdict(result)}))
            done += 1
    return done


def write_lines(count: int, folder: Path) -> int:
    """The same plan as one JSON file, the same results as lines of one file."""
    plan = _write_plan(count, folder)
    done = 0
    with (folder / "results.ndjson").open("w") as file:
        for header, some in results(plan):
            for result in some:
                file.write(json.dumps({**header, **asdict(result)}) + "\n")
                done += 1
    return done


def _write_plan(count: int, folder: Path) -> Plan:
    plan = planning.planned(planning.a_sweep(count))
    rows = plan.table.sort_by("row").drop_columns(NOT_IN_THE_TABLE).to_pylist()
    (folder / "plan.json").write_text(json.dumps(rows))
    return plan


def naive(count: int, folder: Path) -> int:
    """json for each object, pandas for the rest."""
    paths = (folder / "results").rglob("*.json")
    return _naive_table([json.loads(path.read_text()) for path in paths], folder)


def naive_one_file(count: int, folder: Path) -> int:
    """The same with all results in one file, a line each: no million files are opened."""
    with (folder / "results.ndjson").open() as file:
        return _naive_table([json.loads(line) for line in file], folder)


def _naive_table(found: list[dict[str, Any]], folder: Path) -> int:
    results = pd.DataFrame(found)
    results["verdict"] = results["status"].map({"ok": 0, "infeasible": 1, "failed": 2, "missing": 3})
    results["newest"] = -results["epoch"]
    order = ["slot", "newest", "verdict", "round", "started_at", "writer"]
    best = results.sort_values(order).drop_duplicates("slot").drop(columns=["epoch", "plan", "lot"])
    plan = pd.DataFrame(json.loads((folder / "plan.json").read_text()))
    table = plan.merge(best, on="slot", how="left")
    table["status"] = table["status"].fillna("missing").where(table["unfit"] == "", "unfit")
    rivals = table[table["status"] == "ok"].groupby(["model", "objective", "target"])["throughput_images_s"]
    table["rank"] = rivals.rank(ascending=False, method="first")
    return len(table)
