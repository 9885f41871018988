"""The chart on real nodes, as a user installs and uses it: by commands, each shown with what it prints."""

from __future__ import annotations

import base64
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.cluster.cluster import until
from tests.nodes.bench import ROOT, Bench
from tests.ports import free_ports

RELEASE = "aicsweep"
STORE = f"{RELEASE}-store"
_STORAGE_CLASS = "by-hand"
_VOLUME = "aicsweep-store"


class Shell:
    """Before the cluster, with nothing of this machine's AWS settings; `say` is told all that one would see."""

    def __init__(self, bench: Bench, say: Callable[[str], None]) -> None:
        clean = {k: v for k, v in bench.cluster.environment().items() if not k.startswith("AWS_")}
        here = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        self._environment = {
            **clean, **here, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(ROOT), "COLUMNS": "180",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}",
            "HELM_CACHE_HOME": str(bench.folder / "helm"), "HELM_CONFIG_HOME": str(bench.folder / "helm"),
        }  # fmt: skip
        self._say = say

    def run(self, *command: str, **environment: str) -> str:
        """What it prints; AssertionError if it does not end well."""
        self._say(f"$ {shlex.join(command)}")
        process = self._begin(command, environment)
        lines = self._read(process, "")
        assert process.wait() == 0, f"{shlex.join(command)} ended with {process.returncode}: {''.join(lines)}"
        return "".join(lines)

    @contextmanager
    def beside(self, *command: str, mark: str = "") -> Iterator[list[str]]:
        """What it has printed so far, while it runs; it is ended with the block. `mark` tells its lines apart."""
        self._say(f"$ {shlex.join(command)} &")
        process, lines = self._begin(command, {}), list[str]()
        thread = threading.Thread(target=self._read, args=(process, mark, lines), daemon=True)
        thread.start()
        try:
            yield lines
        finally:
            process.terminate()
            process.wait()
            thread.join()

    def _begin(self, command: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=ROOT, env={**self._environment, **environment}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _read(self, process: subprocess.Popen[str], mark: str, lines: list[str] | None = None) -> list[str]:
        lines = [] if lines is None else lines
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            self._say(f"{mark}{line.rstrip()}")
        return lines


class Seen(NamedTuple):
    """What the commands of `tour` printed."""

    sweeps: list[str]
    status: str
    through_a_pod: str
    from_the_store: str


def values(bench: Bench) -> dict[str, Any]:
    """The chart's, for this cluster: its images are on the nodes, its machine has few cores."""
    named = {name: reference.rpartition(":") for name, reference in bench.images.items()}
    image = {name: {"repository": parts[0], "tag": parts[2]} for name, parts in named.items()}
    return {
        "images": {"pullPolicy": "Never", **{name: image[name] for name in ("controller", "build", "measure")}},
        "store": {"dev": {"enabled": True, "image": image["store"], "size": "1Gi",
                          "storageClassName": _STORAGE_CLASS}},
        "pods": {"build": {"cpu": 1, "memory": "4Gi"}, "measure": {"cpu": 2, "memory": "2Gi"}},
    }  # fmt: skip


def prepare(bench: Bench, namespace: str, node: str) -> Path:
    """What an operator has made before: the namespace, a volume for the store on a node, values for this cluster."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    folder = bench.nodes.folder / node / "var-lib" / _VOLUME
    folder.mkdir(exist_ok=True)
    where = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]
    volume = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": _STORAGE_CLASS,
        "local": {"path": f"/var/lib/{_VOLUME}"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": where}]}},
    }
    bench.cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": label}},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": _VOLUME}, "spec": volume},
    )
    file = bench.folder / "values.yaml"
    file.write_text(yaml.safe_dump({**values(bench), "watchNamespaces": [namespace]}))
    return file


def install(shell: Shell, namespace: str, file: Path, verb: str = "install", *more: str) -> str:
    where = ["-n", namespace, "-f", str(file)]
    return shell.run("helm", verb, RELEASE, "helm/aicsweep", *where, "--wait", "--timeout=5m", *more)


def tour(bench: Bench, shell: Shell, namespace: str) -> Seen:
    """The quickstart, from `apply` to its table, read in both ways."""
    n = ("-n", namespace)
    with shell.beside("kubectl", "get", "sweeps", *n, "--watch", mark="sweeps| ") as sweeps:
        shell.run("kubectl", "apply", *n, "-f", "sweeps/quickstart.yaml")
        status = shell.run("kubectl", "aicsweep", "status", "quickstart", *n, "--watch")
    shell.run("kubectl", "get", "pods", *n, "-o", "wide")
    through_a_pod = shell.run("kubectl", "aicsweep", "table", "quickstart", *n, "--via", "pod")
    with reached(bench, shell, namespace) as keys:
        place = ("s3://aicsweep/aicsweep", "--sweep", "quickstart")
        from_the_store = shell.run("aicsweep", "table", *place, **keys)
    return Seen(sweeps, status, through_a_pod, from_the_store)


@contextmanager
def reached(bench: Bench, shell: Shell, namespace: str) -> Iterator[dict[str, str]]:
    """The chart's own store from here: AWS_* variables."""
    secret = bench.cluster.get("secret", STORE, "-n", namespace)["data"]
    keys = {name: base64.b64decode(value).decode() for name, value in secret.items()}
    (port,) = free_ports(1)
    with shell.beside("kubectl", "port-forward", "-n", namespace, f"service/{STORE}", f"{port}:8333"):
        until(lambda: _answers(port), "no port-forward")
        yield {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
