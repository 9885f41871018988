"""The real cluster in the hands of a test: Sweeps, pods, controllers, and the table that comes of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from k8s.pod_template import DEVICE_NODE
from runner import tables
from runner.store import Store, open_store
from runner.sweepfile import sweep_from_object
from tests import s3_server
from tests.cluster import binaries, cluster, program
from tests.cluster.cluster import QAIC, Cluster, until
from tests.cluster.oracle import is_true, of_its_spec
from tests.nodes import buildah, control, images
from tests.nodes.control import Nodes
from tests.nodes.layout import GATEWAY, SERVICE, Node
from tests.s3_server import ADMIN_KEY, SECRET_KEY, S3Server

ROOT = Path(__file__).parents[2]
S3_PLACE = f"{GATEWAY}:8333"
SECRET = "store"
CLUSTER = "nodes"
CARDS = ("card-a", "card-b")
BUILDER = "builder"


def settings(namespace: str, build_image: str, measure_image: str) -> dict[str, str]:
    """Of the controller of a namespace, without the prefix of their variables."""
    return {
        "namespaces": namespace,
        "cluster": CLUSTER,
        "store": f"s3://{namespace}/results",
        "store_secret": SECRET,
        "build_image": build_image,
        "measure_image": measure_image,
        "image_pull_policy": "Never",
        "lease_namespace": namespace,
    }


class Bench:
    """Everything is real but the cards."""

    def __init__(self, cluster: Cluster, nodes: Nodes, s3: S3Server, folder: Path) -> None:
        self.cluster, self.nodes, self.s3, self.folder = cluster, nodes, s3, folder
        self.images = {name: image.reference for name, image in images.for_tests().items()}

    def load_images(self) -> None:
        archives = []
        for name, reference in self.images.items():
            archives.append(self.folder / f"{name}.tar")
            buildah.thin(reference, archives[-1])
        self.nodes.load(archives)

    def wait_ready(self, names: Sequence[str]) -> None:
        ready = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
        until(
            lambda: self.cluster.kubectl("get", "nodes", "-o", ready).count("True") == len(names),
            timeout_s=120,
        )

    def allocatable(self, node: str) -> str:
        """Cards that the node offers."""
        return str(self.cluster.get("node", node)["status"]["allocatable"].get(QAIC, "0"))

    def add_namespace(self, name: str) -> None:
        """A fresh one that enforces Pod Security `restricted`, with a bucket and the Secret for it."""
        bucket = {"Bucket": name}
        self.s3.client().create_bucket(**bucket)
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        keys = {
            "AWS_ACCESS_KEY_ID": ADMIN_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{S3_PLACE}",
        }
        meta = {"name": name}
        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {**meta, "labels": labels}})
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": keys}
        self.cluster.apply(secret, namespace=name)
        # Made by the controller-manager; pods are refused before.
        until(lambda: self.cluster.kubectl("get", "serviceaccount", "-n", name, "-o", "name"))

    @contextmanager
    def controller(self, namespace: str) -> Iterator[subprocess.Popen[bytes]]:
        """One for this namespace, a process of this machine."""
        given = settings(namespace, self.images["build"], self.images["measure"])
        process = program.start(self.cluster.kubeconfig, self.folder, namespace, **given).popen
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def apply(self, namespace: str, name: str, **spec: Any) -> None:
        body = {
            "apiVersion": "aicsweep.dev/v1alpha1",
            "kind": "Sweep",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.cluster.apply(body, namespace=namespace)

    def sweep(self, namespace: str, name: str) -> Any:
        return self.cluster.get("sweep", name, "-n", namespace)

    def wait(self, namespace: str, name: str, condition: str = "Complete", *, timeout_s: float = 240) -> Any:
        """The Sweep, once the condition is true of the spec that it has."""

        def so() -> bool:
            return is_true(of_its_spec(self.sweep(namespace, name)), condition)

        try:
            until(so, timeout_s=timeout_s)
        except AssertionError:
            raise AssertionError(f"never {condition}: {self._last_words(namespace, name)}") from None
        return self.sweep(namespace, name)

    def _last_words(self, namespace: str, name: str) -> str:
        parts = [json.dumps(self.sweep(namespace, name).get("status"), indent=1)]
        parts.append(self.cluster.kubectl("get", "pods,jobs", "-o", "wide", "-n", namespace))
        parts.append(self.cluster.kubectl("get", "events", "-n", namespace))
        for pod in self.pods(namespace):
            if pod["status"]["phase"] == "Failed":
                parts.append(self.logs(namespace, pod["metadata"]["name"]))
        log = self.folder / f"{namespace}.log"
        parts += [log.read_text()[-3000:]] if log.exists() else []
        return "\n".join(parts)

    def pods(self, namespace: str, stage: str = "") -> list[Any]:
        selector = ("-l", f"aicsweep.dev/stage={stage}") if stage else ()
        found: list[Any] = self.cluster.get("pods", "-n", namespace, *selector)
        return found

    def logs(self, namespace: str, pod: str) -> str:
        return self.cluster.kubectl("logs", pod, "-n", namespace)

    def home(self, namespace: str, name: str, store: str = "", cluster: str = CLUSTER) -> Store:
        """The Sweep's folder, by default in its bucket; pods see it at another address."""
        prefix = sweep_from_object(self.sweep(namespace, name)).store_prefix(cluster)
        return open_store(store or f"s3://{namespace}/results").at(prefix)

    def table(self, namespace: str, name: str) -> pa.Table:
        """The Sweep's current table, read from the bucket by the product's own code."""
        return tables.read_current(self.home(namespace, name))[0]


def make(say: binaries.Say) -> None:
    """Programs and images, where they are missing."""
    binaries.ensure(say)
    binaries.ensure(say, *binaries.NODE_NAMES)
    for image in images.for_tests().values():
        for each in images.missing(image):
            say(f"building the image {each.name} (once)")
            images.ensure(each)


@contextmanager
def running(folder: Path) -> Iterator[Bench]:
    """Two nodes with two cards each and one that builds, Ready, with all images; and an S3."""
    programs = {**binaries.ensure(print), **binaries.ensure(print, *binaries.NODE_NAMES)}
    pause = images.pause_image().reference
    nodes = [
        *(Node(name, number, 2, pause, {DEVICE_NODE: "true"}) for number, name in enumerate(CARDS, 1)),
        Node(BUILDER, len(CARDS) + 1, 0, pause),
    ]
    names = [node.name for node in nodes]
    with (
        buildah.in_use(),
        s3_server.running(folder / "s3") as s3,
        cluster.running(folder / "cluster", kubelets=names) as control_plane,
    ):
        configs = {name: control_plane.folder / "state" / f"node-{name}.kubeconfig" for name in names}
        forwards = {f"{SERVICE}:443": control_plane.port(), S3_PLACE: int(s3.endpoint.rpartition(":")[2])}
        admin, logs = control_plane.kubeconfig, folder / "logs"
        with control.running(nodes, configs, programs, forwards, admin, logs) as started:
            bench = Bench(control_plane, started, s3, folder)
            bench.load_images()
            bench.wait_ready(names)
            yield bench
