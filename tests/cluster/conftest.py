"""The cluster that all tests of this folder share, and a namespace of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chart.helm import Helm
from tests.cluster import binaries
from tests.cluster.cluster import Cluster, running
from tests.cluster.rig import Rig, rigged


def pytest_collection_finish(session: pytest.Session) -> None:
    """Programs are made before the first test, outside every test's time limit and where one sees it."""
    if session.config.option.collectonly or not binaries.missing():
        return
    if any(item.get_closest_marker("cluster") for item in session.items):
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            binaries.ensure(lambda text: print(f"\ntest cluster: {text}", flush=True))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all tests: own control plane and simulated nodes, or the cluster of KUBECONFIG_E2E."""
    given = os.environ.get("KUBECONFIG_E2E")
    folder = tmp_path_factory.mktemp("cluster")
    with running(folder, kubeconfig=Path(given).absolute() if given else None) as started:
        yield started


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh one, deleted afterwards without waiting for it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def sweeps(cluster: Cluster) -> Cluster:
    """The cluster, once it serves Sweeps by the committed definition."""
    cluster.define_sweeps()
    return cluster


@pytest.fixture(scope="session")
def rig(sweeps: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Shim, proxy and a watch over all Sweeps, with six simulated nodes of eight devices each."""
    nodes = sweeps.add_nodes(6, prefix="rig")
    with rigged(sweeps, tmp_path_factory.mktemp("rig")) as rig:
        rig.answer_logs(*nodes)
        yield rig
        rig.remove_namespaces()
    sweeps.remove_nodes(*nodes)


@pytest.fixture(scope="module")
def played(
    rig: Rig, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], str | None]]:
    """Waits for one of the module's plays (its `play`), and gives what it says."""
    folder = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])
    with request.module.play.playing(rig, folder, request) as wait_for:
        yield wait_for


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that knows nothing of Sweeps, with two nodes of four devices, and a volume."""
    with running(tmp_path_factory.mktemp("chart")) as started:
        started.add_nodes(2, qaic=4, prefix="chart")
        started.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": "by-hand"},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "by-hand",
                    "hostPath": {"path": "/nowhere"},
                },
            }
        )
        yield started


@pytest.fixture(scope="module")
def helm(fresh: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"), fresh.environment())
