"""Runs of `aicsweep` that are struck at a point, on one machine; forked from a process that has all imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner import tables
from runner.proof import Finding
from runner.result import RESULT_SCHEMA
from runner.store import Store, open_store
from runner.stored import read_results
from runner.verify import verify
from tests.samples import Silent

ROOT = Path(__file__).parents[2]
# What a result says of the measurement; when it was, and for how long the card was held, differs.
COLUMNS = [name for name in RESULT_SCHEMA.names if name not in ("epoch", "started_at", "device_s")]
LARGER = {"models": "resnet50, mobilenet_v2", "cores": "1, 2, 7"}
SWEEP = """
apiVersion: aicsweep.dev/v1alpha1
kind: Sweep
metadata: {{name: small}}
spec:
  backend: fake
  models: [{models}]
  grid: {{cores: [{cores}], instances: [1]}}
  limits: {{lotMinutes: 4, rounds: 2}}
"""


class Runs:
    """The forking process, and where its runs take place."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def run(
        self,
        folder: Path,
        *arguments: str,
        strikes: Sequence[int] = (),
        with_signal: int = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Run `aicsweep ARGUMENTS` in `folder`; the exit code, -N for signal N."""
        folder.mkdir(parents=True, exist_ok=True)
        order = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), **(environment or {})},
            "strikes": list(strikes),
            "signal": int(with_signal),
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return int(json.loads(self._server.stdout.readline())["code"])


@contextmanager
def forking() -> Iterator[Runs]:
    # More than one thread at a fork, and a lock that another one holds is never given back.
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crashes.server"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **single},
    ) as server:  # fmt: skip
        yield Runs(server)


class Scene:
    """One sweep in a folder and a store of its own; `root` is where that is not below the folder."""

    def __init__(
        self,
        runs: Runs,
        folder: Path,
        root: Store | None = None,
        *,
        models: str = "resnet50",
        cores: str = "1, 2",
    ) -> None:
        folder.mkdir(parents=True)
        (folder / "sweep.yaml").write_text(SWEEP.format(models=models, cores=cores))
        self.runs, self.folder = runs, folder
        self.root = root or open_store(str(folder / "store"))
        self.prefix = "sweeps/local/default/small/1"

    def run(self, *strikes: int, with_signal: int = signal.SIGKILL, **environment: str) -> int:
        arguments = ("run", "sweep.yaml", "--store", self.root.url)
        return self.runs.run(
            self.folder, *arguments, strikes=strikes, with_signal=with_signal, environment=environment
        )

    def said(self, file: str) -> list[str]:
        path = self.folder / file
        return path.read_text().splitlines() if path.exists() else []

    @property
    def home(self) -> Store:
        return self.root.at(self.prefix)

    def table(self) -> pa.Table:
        return tables.read_current(self.home)[0]

    def findings(self) -> list[Finding]:
        """What `aicsweep verify` has against the table."""
        return verify(self.root, self.prefix, Silent()).findings

    def ends_well(self, calm: Calm, kills: int) -> None:
        """The oracle: the table of an undisturbed run, proven; nothing lost, doubled or stale; no more work than
        the kills cost."""
        assert "Traceback" not in "\n".join(self.said("log"))
        assert numbers(self.table()) == calm.numbers
        assert self.findings() == []
        done = Counter(self.said("work"))
        assert done.keys() == calm.work
        for kind in ("compile", "measure"):
            count = sum(number for line, number in done.items() if line.startswith(kind))
            assert count <= sum(line.startswith(kind) for line in calm.work) + kills, done
        results = read_results(self.home)
        assert not results.damaged
        assert results.table.num_rows <= len(set(results.table["slot"].to_pylist())) + kills


def numbers(table: pa.Table) -> list[dict[str, Any]]:
    """The result columns of a table."""
    rows: list[dict[str, Any]] = table.select([*COLUMNS, "objective"]).to_pylist()
    return rows


@dataclass(frozen=True)
class Calm:
    """An undisturbed run: its points, what it worked, its numbers."""

    points: list[str]
    work: set[str]
    numbers: list[dict[str, Any]]


def undisturbed(scene: Scene) -> Calm:
    assert scene.run() == 0
    assert {row["status"] for row in scene.table().to_pylist()} == {"ok"}
    work = scene.said("work")
    assert len(set(work)) == len(work)
    return Calm(scene.said("points"), set(work), numbers(scene.table()))
