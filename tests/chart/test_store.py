"""The store to try things out, started as the chart's pod starts it: who gets in, and to what."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from runner.errors import StoreError
from runner.store import Store, open_store
from runner.store_check import check
from tests.chart.helm import Helm
from tests.cluster.cluster import until
from tests.ports import free_ports

KEYS = {"AWS_ACCESS_KEY_ID": "tried", "AWS_SECRET_ACCESS_KEY": "out"}
# All but S3 may only be asked from within the pod.
INSIDE, S3 = "127.0.0.1", "127.0.0.2"
_SERVICES = ("master", "volume", "filer")


@pytest.fixture(scope="module")
def running(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, str]]:
    """Its process, and where it listens. Ports are other ones, and one loopback address stands for all addresses."""
    folder = tmp_path_factory.mktemp("store")
    made = helm.render({"store": {"dev": {"enabled": True, "bucket": "bench"}}})
    (pod,) = (each["spec"]["template"]["spec"] for each in made if each["kind"] == "StatefulSet")
    (container,) = pod["containers"]
    assert container["command"] == ["weed"]
    ports = free_ports(2 * len(_SERVICES) + 2)
    flags = [f"{service}.port{kind}" for service in _SERVICES for kind in ("", ".grpc")]
    args = [
        arg.replace("-dir=/data", f"-dir={folder}")
        .replace("0.0.0.0", S3)
        .replace("-s3.port=8333", f"-s3.port={ports[0]}")
        for arg in container["args"]
    ]
    args += [
        f"-s3.port.grpc={ports[1]}",
        *(f"-{flag}={port}" for flag, port in zip(flags, ports[2:], strict=True)),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder / "log").open("wb") as log:
        popen = subprocess.Popen(
            [str(Path(sys.executable).with_name("weed")), *args],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environment, **KEYS, "HOME": str(folder), "TMPDIR": str(folder)},
        )
    try:
        endpoint = f"http://{S3}:{ports[0]}"
        _wait(endpoint, folder / "log")
        yield psutil.Process(popen.pid), endpoint
    finally:
        popen.kill()
        popen.wait()


def _wait(endpoint: str, log: Path) -> None:
    """Until it answers the probe."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{endpoint}/healthz", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)


def test_it_keeps_what_a_sweep_writes(
    running: tuple[psutil.Process, str], no_aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": running[1], "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://bench/aicsweep")
    # The first thing that a plan pod does. It answers the probe before there is a volume to write to.
    until(lambda: _checked(store))
    assert store.put_new("a/b.json", b"1")
    assert not store.put_new("a/b.json", b"2")
    assert [each.key for each in store.list("a")] == ["a/b.json"]


def _checked(store: Store) -> bool:
    try:
        check(store)
    except StoreError:
        return False
    return True


def test_nobody_gets_in_without_the_key(running: tuple[psutil.Process, str]) -> None:
    for path in ("bench", "bench/aicsweep/a/b.json"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{running[1]}/{path}", timeout=5)
        assert caught.value.code == 403


def test_only_s3_listens_to_the_network(running: tuple[psutil.Process, str]) -> None:
    process, endpoint = running
    outside = {
        each.laddr.port
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.ip != INSIDE
    }
    assert int(endpoint.rpartition(":")[2]) in outside
    # The other one, S3's gRPC, is named so that a new one is noticed.
    assert len(outside) <= 2
