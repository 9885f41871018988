"""A store on S3: requests a cell, CPU a request, and a merge from there. The server is a process of its own, whose CPU
is not counted; `benchmarks.__main__` starts it and points AWS_* at it.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import boto3
import orjson

from benchmarks import merging, planning
from runner import engine
from runner import merge as merge_
from runner.plan import read_plan
from runner.result import SEGMENT_SUFFIX, encode_segment
from runner.spec import Sweep
from runner.store import Store, open_store
from runner.transfer import get_many
from tests import s3_proxy
from tests.samples import place, sweep

BUCKET = "bench"
# A segment of 50 results has about so many bytes.
SEGMENT_BYTES = 8_000


def _store(folder: Path) -> Store:
    return open_store(f"s3://{BUCKET}/{folder.name}")


def a_sweep(count: int) -> Sweep:
    """About `count` cells, 50 to a lot."""
    grid = {"cores": [2], "instances": [1, 2], "setSize": [1, 2, 3, 4, 5],
            "batchSize": list(range(1, max(5, round(count / 70)) + 1))}  # fmt: skip
    limits = {"maxCells": 2 * count, "maxDeviceHours": count, "lotMinutes": 5}
    return sweep(models=["resnets"], grid=grid, weights="random", objectives=["best-throughput"],
                 measure={"seconds": 1, "repeats": 1}, limits=limits)  # fmt: skip


def requests_of_a_sweep(count: int, folder: Path) -> int:
    """Requests to the store by a sweep of about `count` cells from the check to the table, without those for
    artefacts: these go with the binaries, not with the cells."""
    return sum("artifacts/" not in key for key, _ in _played(count, folder))


def requests_while_measuring(count: int, folder: Path) -> int:
    """Those of them that keep results and samples: planning and merging read each segment besides. Counted of the
    sweep that `requests_of_a_sweep` played on this server, if it did: time and memory are then none of a sweep's."""
    noted = open_store(f"s3://{BUCKET}")
    key = _asked_key(count)
    asked = orjson.loads(noted.get(key)) if noted.exists(key) else _played(count, folder)
    return sum("/results/" in key or "/raw/" in key for key, writes in asked if writes)


def _asked_key(count: int) -> str:
    return f"asked/{count}.json"


def _played(count: int, folder: Path) -> list[tuple[str, bool]]:
    """Key of each request, and whether it writes; noted in the bucket."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    with s3_proxy.proxying(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
        at = dataclasses.replace(place(folder, a_sweep(count)), root=_store(folder))
        assert engine.run(at).measured >= count
        asked = [(request.key, request.writes) for request in proxy.asked]
        open_store(f"s3://{BUCKET}").put(_asked_key(count), orjson.dumps(asked))
        return asked


def naive_requests(count: int, folder: Path) -> int:
    """One object a cell: written, and read for the table."""
    client = boto3.client("s3")
    for number in range(count):
        client.put_object(Bucket=BUCKET, Key=f"{folder.name}/{number}.json", Body=b"{}")
    for number in range(count):
        client.get_object(Bucket=BUCKET, Key=f"{folder.name}/{number}.json")["Body"].read()
    return 2 * count


def segments(count: int, folder: Path) -> int:
    """As many requests: half write a segment of its own, half read one."""
    store, data = _store(folder), os.urandom(SEGMENT_BYTES)
    keys = [f"results/{number:06}" for number in range(count // 2)]
    for key in keys:
        store.keep(key, data)
    return len(keys) + sum(1 for _ in get_many(store, keys))


def naive_segments(count: int, folder: Path) -> int:
    """The same by boto3."""
    client, data = boto3.client("s3"), os.urandom(SEGMENT_BYTES)
    keys = [f"{folder.name}/results/{number:06}" for number in range(count // 2)]
    for key in keys:
        client.put_object(Bucket=BUCKET, Key=key, Body=data, IfNoneMatch="*")
    return len(keys) + sum(
        1 for key in keys if client.get_object(Bucket=BUCKET, Key=key)["Body"].read() is not None
    )


def write_store(count: int, folder: Path) -> int:
    """As `merging.write_store`, on S3."""
    plan = planning.planned(planning.a_sweep(count))
    (folder / "plan.parquet").write_bytes(plan.data)
    store, done = _store(folder), 0
    for header, some in merging.results(plan):
        key = f"results/{plan.digest}/{header['lot']:05}/{header['writer']}-0{SEGMENT_SUFFIX}"
        store.keep(key, encode_segment(header, some))
        done += len(some)
    return done


def merge(count: int, folder: Path) -> int:
    plan = read_plan((folder / "plan.parquet").read_bytes())
    return int(merge_.merge(plan, engine.read_results(_store(folder))).num_rows)
