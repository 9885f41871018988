"""A cluster of real nodes that all tests of this folder share: two with two cards each, one that builds.

Everything in it is real but the cards: control plane, kubelets, containerd, containers, S3.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from k8s.jobs import DEVICE_NODE
from tests import s3_server
from tests.cluster import binaries
from tests.cluster.cluster import running
from tests.nodes import host, images, needs
from tests.nodes.bench import S3_PLACE, Bench
from tests.nodes.layout import SERVICE, Node

CARDS = ("card-a", "card-b")
BUILDER = "builder"


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

        def say(text: str) -> None:
            print(f"\nreal nodes: {text}", flush=True)

        binaries.ensure(say)
        binaries.ensure(say, *binaries.NODE_NAMES)
        for *bases, image in images.for_tests().values():
            if not image.archive.exists():
                say(f"building the image {image.name} (once)")
            images.ensure(image, *bases)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The cluster, ready: nodes with their cards and images, and a bucket."""
    folder = tmp_path_factory.mktemp("nodes")
    programs = {**binaries.ensure(print), **binaries.ensure(print, *binaries.NODE_NAMES)}
    pause = images.pause_image().reference
    nodes = [
        *(Node(name, number, 2, pause, {DEVICE_NODE: "true"}) for number, name in enumerate(CARDS, 1)),
        Node(BUILDER, len(CARDS) + 1, 0, pause),
    ]
    names = [node.name for node in nodes]
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_server.running(folder / "s3"))
        cluster = stack.enter_context(running(folder / "cluster", kubelets=names))
        configs = {name: cluster.folder / "state" / f"node-{name}.kubeconfig" for name in names}
        forwards = {f"{SERVICE}:443": cluster.port(), S3_PLACE: int(s3.endpoint.rpartition(":")[2])}
        started = stack.enter_context(host.running(nodes, configs, programs, forwards, folder / "logs"))
        cluster.define_sweeps()
        bench = Bench(cluster, started, s3, folder)
        bench.load_images(CARDS, BUILDER)
        bench.wait_ready(names)
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in s3.environment().items():
                patch.setenv(variable, value)
            yield bench


@pytest.fixture
def namespace(bench: Bench) -> Iterator[str]:
    """A fresh one that enforces Pod Security `restricted`, with the store's Secret; deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    bench.add_namespace(name)
    yield name
    bench.cluster.kubectl("delete", "namespace", name, "--wait=false")
