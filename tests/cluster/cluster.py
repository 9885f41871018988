"""A test cluster in the hands of a test: kubectl, a Python client, simulated nodes, servers to stop and start.

`running` brings up one of its own (see `supervisor`), or simulates nodes on the cluster of a kubeconfig
that is given.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.cluster import binaries
from tests.cluster.control_plane import SIMULATED

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

T = TypeVar("T")

QAIC = "qualcomm.com/qaic"
_ROOT = Path(__file__).parents[2]
DEFINITION = _ROOT / "k8s/crd/sweeps.aicsweep.dev.yaml"
_STOP_S = 20.0


class KubectlFailed(Exception):
    """kubectl said no; the text is what it wrote to its error stream."""


@dataclass
class Cluster:
    """A running cluster; everything of it lies below `folder`."""

    folder: Path
    kubeconfig: Path
    pids: dict[str, int]
    programs: Mapping[str, Path]
    supervisor: subprocess.Popen[str]
    _nodes: list[str] = field(default_factory=list)

    @property
    def certificate(self) -> Path:
        """The API server's, its key beside it; not there where the cluster is not our own."""
        return self.folder / "state" / "certificates" / "apiserver.crt"

    def environment(self) -> dict[str, str]:
        """For programs that should use this cluster: kubectl, helm, the controller."""
        tools = str(self.programs["kubectl"].parent)
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            # kubectl keeps what an address once served; another cluster may get the same port.
            "KUBECACHEDIR": str(self.folder / "kubectl-cache"),
            "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """What it prints. Raises KubectlFailed."""
        done = subprocess.run(
            [str(self.programs["kubectl"]), *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
        )
        if done.returncode:
            raise KubectlFailed(done.stderr.strip())
        return done.stdout

    def apply(self, *objects: Mapping[str, Any], namespace: str = "default") -> None:
        """Create or change objects on the server's side; misspelt fields are errors."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--validate=strict", "-n", namespace, "-f", "-", stdin=body)

    def add_restricted_namespace(self, name: str) -> str:
        """Its name; there already, it takes restricted pods only from now on."""
        label = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}})
        return name

    def define_sweeps(self) -> None:
        """Returns once Sweeps are served by the committed definition."""
        self.kubectl("apply", "--server-side", "--validate=strict", "-f", str(DEFINITION))
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(DEFINITION))

    def get(self, *args: str) -> Any:
        """`kubectl get ... -o json`, parsed: one object, or the items of a list."""
        found = json.loads(self.kubectl("get", "-o", "json", *args))
        return found["items"] if found["kind"].endswith("List") else found

    def api_client(self) -> ApiClient:
        """A client of the official library; close it, or use it as a context manager."""
        import kubernetes.config  # takes a second

        return kubernetes.config.new_client_from_config(str(self.kubeconfig))

    def add_nodes(
        self,
        count: int,
        *,
        qaic: int = 8,
        cpu: int = 64,
        memory: str = "256Gi",
        pods: int = 110,
        prefix: str = "node",
        labels: Mapping[str, str] | None = None,
    ) -> list[str]:
        """`count` simulated nodes PREFIX-0, PREFIX-1, ... with so much to give, once they are Ready. Their names.

        The label `aicsweep.dev/nodes: PREFIX` is on each of them: select by it to have them for one test.
        """
        names = [f"{prefix}-{index}" for index in range(count)]
        give = {"cpu": str(cpu), "memory": memory, "pods": str(pods), **({QAIC: str(qaic)} if qaic else {})}
        mark = {"aicsweep.dev/nodes": prefix, **(labels or {})}
        nodes = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "annotations": dict([SIMULATED]),
                    "labels": {
                        "kubernetes.io/arch": "amd64",
                        "kubernetes.io/os": "linux",
                        "kubernetes.io/hostname": name,
                        **mark,
                    },
                },
                # Only at its creation may a node's status be said with it.
                "status": {"capacity": give, "allocatable": give},
            }
            for name in names
        ]
        self.kubectl(
            "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes})
        )
        self._nodes += names
        # `kubectl wait` would watch them one after the other.
        until(lambda: self._ready(prefix) >= count, timeout_s=120)
        return names

    def _ready(self, prefix: str) -> int:
        path = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "nodes", "-l", f"aicsweep.dev/nodes={prefix}", "-o", path).count("True")

    def remove_nodes(self, *names: str) -> None:
        """Their pods are left to the cluster, as when a machine is taken away."""
        self.kubectl("delete", "node", "--ignore-not-found", *names)
        self._nodes = [name for name in self._nodes if name not in names]

    def port(self) -> int:
        """The API server's, on the loopback address."""
        path = "jsonpath={.clusters[0].cluster.server}"
        return int(self.kubectl("config", "view", "-o", path).rpartition(":")[2])

    def stop(self, process: str) -> None:
        """Kill one of the cluster's processes, e.g. kube-apiserver."""
        self._command("stop", process)

    def start(self, process: str) -> None:
        """Start it again with the flags, port and data it had."""
        self._command("start", process)

    def log(self, process: str) -> str:
        return (self.folder / "logs" / f"{process}.log").read_text(errors="replace")

    def remove_everything(self) -> None:
        """What must not stay behind on a cluster that is not ours."""
        if self._nodes:
            self.remove_nodes(*self._nodes)

    def _command(self, verb: str, process: str) -> None:
        if process not in self.pids:
            raise LookupError(f"{process} is none of this cluster's processes: {', '.join(self.pids)}")
        assert self.supervisor.stdin is not None
        self.supervisor.stdin.write(f"{verb} {process}\n")
        self.supervisor.stdin.flush()
        self.pids.update(answer_of(self.supervisor)["pids"])


@contextmanager
def running(
    folder: Path, *, kubeconfig: Path | None = None, kubelets: Sequence[str] = ()
) -> Iterator[Cluster]:
    """A cluster below `folder`, ready for pods; else RuntimeError with the end of a log. Each of `kubelets`
    finds what it needs in `state/node-NAME.kubeconfig`."""
    supervisor = launch(folder, kubeconfig=kubeconfig, kubelets=kubelets)
    with supervisor:
        answer = answer_of(supervisor)
        cluster = Cluster(
            folder, Path(answer["kubeconfig"]), answer["pids"], binaries.ensure(print), supervisor
        )
        try:
            yield cluster
            if kubeconfig is not None:
                cluster.remove_everything()
        finally:
            assert supervisor.stdin is not None
            supervisor.stdin.close()
            supervisor.wait(_STOP_S)


def until(condition: Callable[[], T], what: str = "", *, timeout_s: float = 120.0) -> T:
    """What it returns once that is true; AssertionError, saying in vain of `what`, if that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not so after {timeout_s:g} s: {what}"
        time.sleep(0.1)
    return found


def launch(
    folder: Path, *, kubeconfig: Path | None = None, kubelets: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """The supervisor of a cluster below `folder`, whose first line of output says that it is ready."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.cluster.supervisor", str(folder.absolute())]
    command += ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    command += [f"--kubelet={name}" for name in kubelets]
    with (folder / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def answer_of(supervisor: subprocess.Popen[str]) -> Any:
    """Its next line, waited for. Raises RuntimeError if that says why there is no cluster."""
    assert supervisor.stdout is not None
    line = supervisor.stdout.readline()
    answer = json.loads(line) if line else {"error": "the supervisor ended; see supervisor.log"}
    if "error" in answer:
        raise RuntimeError(f"no cluster: {answer['error']}")
    return answer
