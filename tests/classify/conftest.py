"""Fixtures of the vendor-compatible command: a start directory, emulated SDKs, small graphs in place of exports."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.backends import ExportReport
from runner.backends.qaic import bench, gate
from runner.classify import cli, flow
from runner.keys import ExportRequest
from tests import emulated_sdk
from tests.classify.graphs import write_graph

STYLES = ("1.10", "1.19", "1.21")
# What waits in earnest for minutes waits here for moments.
QUICK = bench.Limits(
    query_s=20.0,
    run_margin_s=30.0,
    neighbours_s=5.0,
    gate=gate.Limits(boot_s=0.2, free_s=0.2, cool_s=0.2, settle_s=0.5, poll_s=0.01, settle_poll_s=0.01),
)


@dataclass
class SmallExporter:
    """Writes a network of a few thousand weights for whatever is asked, and remembers what was."""

    requests: list[ExportRequest] = field(default_factory=list)
    limits_s: list[float] = field(default_factory=list)

    @contextmanager
    def opened(self, limit_s: float) -> Iterator[SmallExporter]:
        self.limits_s.append(limit_s)
        yield self

    def versions(self, request: ExportRequest) -> Mapping[str, str]:
        return {}

    def export(self, request: ExportRequest, folder: Path) -> ExportReport:
        self.requests.append(request)
        return write_graph(folder, request)


@dataclass
class Ended:
    """How a call ended; `last` is the last line of standard error."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.err.rstrip("\n").rpartition("\n")[2]


Call = Callable[..., Ended]
Install = Callable[..., emulated_sdk.Sdk]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that calls start in; no SDK is found from there, and locks are the test's own."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("AICSWEEP_SDK", raising=False)
    monkeypatch.setenv("AICSWEEP_LOCKS", str(tmp_path / "locks"))
    return folder


@pytest.fixture
def exporter() -> SmallExporter:
    return SmallExporter()


@pytest.fixture
def call(start: Path, exporter: SmallExporter, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command with small exports; `limits` in place of the waits for a card."""

    def called(*argv: str, limits: bench.Limits = QUICK) -> Ended:
        capsys.readouterr()
        work = functools.partial(flow.classify, open_exporter=exporter.opened, limits=limits)
        code = cli.run(argv, work)
        return Ended(code, *capsys.readouterr())

    return called


@pytest.fixture
def install(tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install an emulated SDK that the command finds by itself."""
    installed = []

    def install_(style: str = "1.21", **settings: object) -> emulated_sdk.Sdk:
        sdk = emulated_sdk.install(tmp_path / f"sdk-{style}", style=style, **settings)
        installed.append(sdk)
        monkeypatch.setenv("AICSWEEP_SDK", str(sdk.root))
        return sdk

    yield install_
    for sdk in installed:
        sdk.end_all()


@pytest.fixture
def sdk(install: Install) -> emulated_sdk.Sdk:
    """SDK 1.21 and one Standard card."""
    return install()
