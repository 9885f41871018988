"""A cluster of real nodes that all tests of this folder share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.nodes import bench as benches
from tests.nodes import host, needs
from tests.nodes.bench import Bench


def pytest_collection_finish(session: pytest.Session) -> None:
    """Programs and images are made before the first test, outside every test's time limit."""
    if session.config.option.collectonly or not any(
        item.get_closest_marker("nodes") for item in session.items
    ):
        return
    if os.geteuid():
        pytest.exit("tests of real nodes need root: they make namespaces, devices and mounts", returncode=2)
    if lacking := needs.missing():
        pytest.exit(f"packages to install first (make node-programs): {' '.join(lacking)}", returncode=2)
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        benches.make(lambda text: print(f"\nreal nodes: {text}", flush=True))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The cluster, ready, with the definition of Sweep; AWS_* of the environment lead to its S3."""
    host.clear()
    before = host.traces()
    with benches.running(tmp_path_factory.mktemp("nodes")) as bench, pytest.MonkeyPatch.context() as patch:
        for variable, value in bench.s3.environment().items():
            patch.setenv(variable, value)
        bench.cluster.define_sweeps()
        yield bench
    assert host.traces() == before, "the machine is not left as it was"


@pytest.fixture
def namespace(bench: Bench) -> Iterator[str]:
    """As `Bench.add_namespace` makes it; deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    bench.add_namespace(name)
    yield name
    bench.cluster.kubectl("delete", "namespace", name, "--wait=false")
