"""Runs of `aicsweep` on a real S3 server behind a proxy that misbehaves (`s3_proxy`), and scripts for the proxy.

The oracle is the table of an undisturbed run. A fault strikes at a request that the script picks by what is asked,
so a test says exactly when. Outages last a few seconds; AICSWEEP_TEST_OUTAGE_S=120 makes them as long as in the
field.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import yaml

from runner import engine, tables
from runner.store import Store, open_store
from tests import s3_proxy
from tests.cluster.oracle import results, undisturbed
from tests.pod_tables import GRID, LIMITS
from tests.pods import Program
from tests.s3_proxy import Asked, Do, Proxy

OUTAGE_S = float(os.environ.get("AICSWEEP_TEST_OUTAGE_S", "5"))
LIMIT_S = 120 + 3 * OUTAGE_S
SPEC: dict[str, Any] = {"models": ["resnet50", "mobilenet_v2"], "grid": GRID, "limits": LIMITS}
SLOTS = 12


class Run:
    """`aicsweep run` of a small sweep on the bucket behind the proxy; several may follow each other."""

    def __init__(self, folder: Path, bucket: str, proxy: Proxy) -> None:
        self.proxy, self.url, self.cache = proxy, f"s3://{bucket}/store", folder / "cache"
        self.environment: dict[str, str] = {}
        self.fake: dict[str, Any] = {}
        self._runs = 0
        self._file = folder / "sweep.yaml"
        head = {"apiVersion": "aicsweep.dev/v1alpha1", "kind": "Sweep", "metadata": {"name": "sample"}}
        self._file.write_text(yaml.safe_dump({**head, "spec": {"backend": "fake", **SPEC}}))

    def start(self) -> Program:
        environment = {
            "XDG_CACHE_HOME": str(self.cache), "AWS_ENDPOINT_URL": self.proxy.endpoint,
            "AICSWEEP_FAKE": json.dumps(self.fake), "COLUMNS": "200", **self.environment,
        }  # fmt: skip
        self._runs += 1
        log = self._file.with_name(f"log-{self._runs}")
        return Program(["run", str(self._file), "--store", self.url], environment, log)

    def end(self, program: Program, code: int = 0) -> str:
        """What it said, once it has ended as it should."""
        ended = program.code()
        assert ended == code, program.log
        return program.log

    def go(self, code: int = 0) -> str:
        return self.end(self.start(), code)

    @property
    def home(self) -> Store:
        """The sweep in the store, past the proxy."""
        return open_store(self.url).at("sweeps/local/default/sample/1")

    def is_right(self) -> None:
        """The table is that of an undisturbed run, and nothing is lost or doubled."""
        table, _ = tables.read_current(self.home)
        assert results(table) == undisturbed(**SPEC)
        read = engine.read_results(self.home)
        assert not read.damaged
        slots = read.table["slot"].to_pylist()
        assert len(slots) == len(set(slots)) == SLOTS
        assert not [path for path in self.spooled if path.is_file()]

    @property
    def spooled(self) -> list[Path]:
        return list((self.cache / "aicsweep" / "spool").rglob("*"))


def of_results(asked: Asked) -> bool:
    return asked.writes and "/results/" in asked.key


def some(asked: Asked) -> bool:
    """Half of all calls, but for the check at the start, which waits for nothing."""
    return ".probe" not in asked.key and random.Random(asked.number).random() < 0.5


class Once:
    """A script that does something to the first request that fits."""

    def __init__(self, fits: Any, do: Do) -> None:
        self.fits, self.do, self.struck = fits, do, 0

    def __call__(self, asked: Asked) -> Do | None:
        if self.struck or not self.fits(asked):
            return None
        self.struck += 1
        return self.do


class Outage:
    """From the first request that fits on the store is away for a while."""

    def __init__(self, fits: Any, seconds: float) -> None:
        self.fits, self.seconds, self.until_s = fits, seconds, 0.0

    def __call__(self, asked: Asked) -> Do | None:
        if not self.until_s and self.fits(asked):
            self.until_s = asked.at_s + self.seconds
        return s3_proxy.cut if asked.at_s < self.until_s else None
