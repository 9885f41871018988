"""The real cluster in the hands of a test: Sweeps, pods, controllers, and the table that comes of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner import tables
from runner.store import open_store
from runner.sweepfile import sweep_from_object
from tests.cluster import program
from tests.cluster.cluster import QAIC, Cluster, until
from tests.nodes import images
from tests.nodes.host import Nodes
from tests.nodes.layout import GATEWAY
from tests.s3_server import ADMIN_KEY, SECRET_KEY, S3Server

ROOT = Path(__file__).parents[2]
S3_PLACE = f"{GATEWAY}:8333"
SECRET = "store"
CLUSTER = "nodes"


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
        chains = images.for_tests()
        self.images = {name: chain[-1] for name, chain in chains.items()}
        self.measure_image = self.images["measure"].reference
        self.build_image = self.images["build"].reference

    def load_images(self, cards: Sequence[str], builder: str) -> None:
        """Each node has what its pods need: the image with torch takes 13 GB of a node's disk."""
        self.nodes.load([self.images["pause"].archive, self.images["measure"].archive], cards)
        self.nodes.load([self.images["pause"].archive, self.images["build"].archive], [builder])

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
        given = settings(namespace, self.build_image, self.measure_image)
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
        """The Sweep, once the condition is true."""

        def so() -> bool:
            conditions = self.sweep(namespace, name).get("status", {}).get("conditions", [])
            return any(c["type"] == condition and c["status"] == "True" for c in conditions)

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
        parts.append((self.folder / f"controller-{namespace}.log").read_text()[-3000:])
        return "\n".join(parts)

    def pods(self, namespace: str, stage: str = "") -> list[Any]:
        selector = ("-l", f"aicsweep.dev/stage={stage}") if stage else ()
        found: list[Any] = self.cluster.get("pods", "-n", namespace, *selector)
        return found

    def logs(self, namespace: str, pod: str) -> str:
        return self.cluster.kubectl("logs", pod, "-n", namespace)

    def table(self, namespace: str, name: str) -> pa.Table:
        """The Sweep's current table, read from the bucket by the product's own code."""
        # The bucket is where pods see it; here it is on the loopback address.
        prefix = sweep_from_object(self.sweep(namespace, name)).store_prefix(CLUSTER)
        home = open_store(f"s3://{namespace}/results").at(prefix)
        return tables.read_current(home)[0]
