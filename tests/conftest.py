"""Fixtures that several tests share: stores of every kind, and the S3 server behind one of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import process
from runner.store import Store, open_store
from tests import finished as finished_sweep
from tests import s3_proxy
from tests import s3_server as s3
from tests.pod_tables import GRID, LIMITS
from tests.pods import Cluster
from tests.s3_proxy import Proxy
from tests.s3_runs import Run


@pytest.fixture(autouse=True)
def nobody_asked_to_end() -> Iterator[None]:
    """Each test begins in a process that was not asked to end, whatever the one before did."""
    yield
    process.stopping.clear()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """One real S3 server for all tests; see `s3_bucket` for a place of one's own in it."""
    with s3.running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def no_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No trace of this host's AWS settings, credentials and proxies, and no instance role."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def s3_bucket(s3_server: s3.S3Server, no_aws: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh bucket; AWS_* of the environment lead to its server with all rights."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=bucket)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "s3":
        return open_store(f"s3://{request.getfixturevalue('s3_bucket')}/some/prefix")
    return open_store("memory:" if request.param == "memory" else str(tmp_path / "some" / "store"))


@pytest.fixture(scope="session")
def finished_objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object of a store with a finished sweep, by key."""
    return finished_sweep.made(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def finished(tmp_path: Path, finished_objects: dict[str, bytes]) -> Store:
    """A store with a finished sweep, to be damaged."""
    store = open_store(str(tmp_path / "copy"))
    for key, data in finished_objects.items():
        store.put(key, data)
    return store


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Pods of a small sweep, four lots of three slots."""
    return Cluster(tmp_path, grid=GRID, limits=LIMITS)


@pytest.fixture
def proxy(s3_server: s3.S3Server) -> Iterator[Proxy]:
    """In front of the S3 server, to misbehave as a test says."""
    with s3_proxy.proxying(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def run(tmp_path: Path, s3_bucket: str, proxy: Proxy) -> Run:
    """`aicsweep run` on a bucket behind the proxy."""
    return Run(tmp_path, s3_bucket, proxy)
