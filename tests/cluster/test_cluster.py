"""The test cluster itself: it runs Jobs on simulated nodes, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from tests.cluster import __main__ as command_line
from tests.cluster import binaries
from tests.cluster.cluster import QAIC, Cluster, KubectlFailed, running, until

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]


def job(name: str, *, completions: int, nodes: str, qaic: int = 1) -> dict:
    container = {
        "name": "measure",
        "image": "none",
        "resources": {"limits": {QAIC: str(qaic)}, "requests": {"cpu": "1"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": completions,
            "backoffLimit": 0,
            # A pod that is deleted counts by how it ended, not from the moment it was told to.
            "podReplacementPolicy": "Failed",
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "nodeSelector": {"aicsweep.dev/nodes": nodes},
                    "containers": [container],
                }
            },
        },
    }


def end(cluster: Cluster, namespace: str, pod: str, exit_code: int, message: str) -> None:
    """Say what a kubelet would once the pod's only container has ended."""
    state = {"terminated": {"exitCode": exit_code, "message": message, "reason": "Completed"}}
    container = {"name": "measure", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
    phase = "Failed" if exit_code else "Succeeded"
    patch = json.dumps({"status": {"phase": phase, "containerStatuses": [{**container, "state": state}]}})
    cluster.kubectl("patch", "pod", pod, "-n", namespace, "--subresource=status", "-p", patch)


def running_pod(cluster: Cluster, namespace: str, nodes: str) -> str:
    """The name of a Job's only pod, once it is Running."""
    cluster.apply(job("measure", completions=1, nodes=nodes), namespace=namespace)
    ready(cluster, namespace, 1)
    (pod,) = pods(cluster, namespace, "Running")
    return pod["metadata"]["name"]


def ready(cluster: Cluster, namespace: str, count: int) -> None:
    wanted = f"--for=jsonpath={{.status.ready}}={count}"
    cluster.kubectl("wait", "-n", namespace, "job/measure", wanted, "--timeout=60s")


def pods(cluster: Cluster, namespace: str, phase: str) -> list[dict]:
    return cluster.get("pods", "-n", namespace, f"--field-selector=status.phase={phase}")


@pytest.fixture
def nodes(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """One node with two devices, of this test alone."""
    name = request.node.name.replace("_", "-")[:40].rstrip("-")
    made = cluster.add_nodes(1, qaic=2, prefix=name)
    yield name
    cluster.remove_nodes(*made)


def test_a_job_waits_for_devices_and_ends_as_its_pods_are_said_to(cluster, namespace, nodes):
    cluster.apply(job("measure", completions=3, nodes=nodes), namespace=namespace)
    ready(cluster, namespace, 2)
    (waiting,) = pods(cluster, namespace, "Pending")
    refused = "--for=jsonpath={.status.conditions[0].reason}=Unschedulable"
    cluster.kubectl("wait", "-n", namespace, f"pod/{waiting['metadata']['name']}", refused, "--timeout=60s")
    (waiting,) = pods(cluster, namespace, "Pending")
    assert f"Insufficient {QAIC}" in waiting["status"]["conditions"][0]["message"]

    first, second = pods(cluster, namespace, "Running")
    assert first["status"]["podIP"] != second["status"]["podIP"]
    assert first["spec"]["nodeName"] == second["spec"]["nodeName"] == f"{nodes}-0"

    # Nothing ends by itself; the third pod gets the device of the one that ended.
    end(cluster, namespace, first["metadata"]["name"], 0, "lot 0: 12 results")
    until(lambda: len(pods(cluster, namespace, "Running")) == 2 and not pods(cluster, namespace, "Pending"))
    for pod in pods(cluster, namespace, "Running"):
        end(cluster, namespace, pod["metadata"]["name"], 0, "lot 1: 12 results")
    cluster.kubectl("wait", "-n", namespace, "job/measure", "--for=condition=Complete", "--timeout=60s")
    states = [pod["status"]["containerStatuses"][0]["state"] for pod in pods(cluster, namespace, "Succeeded")]
    assert sorted(state["terminated"]["message"][:5] for state in states) == ["lot 0", "lot 1", "lot 1"]


def test_a_failed_pod_fails_its_job(cluster, namespace, nodes):
    end(cluster, namespace, running_pod(cluster, namespace, nodes), 3, "the store is away")
    cluster.kubectl("wait", "-n", namespace, "job/measure", "--for=condition=Failed", "--timeout=60s")


def test_a_deleted_pod_ends_as_after_a_signal(cluster, namespace, nodes):
    name = running_pod(cluster, namespace, nodes)
    cluster.kubectl("delete", "pod", name, "-n", namespace, "--timeout=60s")
    until(lambda: cluster.get("job", "measure", "-n", namespace)["status"].get("failed") == 1)


def test_a_deleted_pod_that_is_played_is_ended_by_its_player(cluster, namespace, nodes):
    name = running_pod(cluster, namespace, nodes)
    cluster.kubectl("annotate", "pod", name, "-n", namespace, "aicsweep.dev/played-by=this-test")
    cluster.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")
    # A pod deleted later is gone while this one is still there: it is not ended behind its player's back.
    cluster.kubectl("run", "other", "-n", namespace, "--image=none", f"--overrides={on(nodes)}")
    cluster.kubectl("wait", "-n", namespace, "pod/other", "--for=condition=Ready", "--timeout=60s")
    cluster.kubectl("delete", "pod", "other", "-n", namespace, "--timeout=60s")
    assert [pod["metadata"]["name"] for pod in pods(cluster, namespace, "Running")] == [name]

    end(cluster, namespace, name, 0, "flushed")
    cluster.kubectl("wait", "-n", namespace, f"pod/{name}", "--for=delete", "--timeout=60s")
    until(lambda: cluster.get("job", "measure", "-n", namespace)["status"].get("succeeded") == 1)


def on(nodes: str) -> str:
    return json.dumps({"spec": {"nodeSelector": {"aicsweep.dev/nodes": nodes}}})


def test_kubectl_says_why_it_failed(cluster):
    with pytest.raises(KubectlFailed, match='namespaces "nowhere" not found'):
        cluster.kubectl("get", "namespace", "nowhere")


def test_the_python_client_sees_the_same_cluster(cluster, nodes):
    import kubernetes.client

    with cluster.api_client() as client:
        node = kubernetes.client.CoreV1Api(client).read_node(f"{nodes}-0")
    assert node.status.allocatable[QAIC] == "2"


# Clusters of their own from here on, beside the shared one.


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_gone(pids: list[int]) -> bool:
    return not any(map(alive, pids))


def test_servers_stop_and_start_again_and_all_end_with_the_cluster(tmp_path):
    with running(tmp_path) as own:
        assert set(own.pids) == {
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kwok",
        }
        before = dict(own.pids)
        own.kubectl("create", "configmap", "kept")
        own.stop("kube-apiserver")
        assert not alive(before["kube-apiserver"])
        with pytest.raises(KubectlFailed, match="refused"):
            own.kubectl("get", "configmap", "kept")
        own.start("kube-apiserver")
        until(lambda: succeeds(own, "get", "configmap", "kept"))
        pids = [*own.pids.values(), own.supervisor.pid]
        assert all(map(alive, pids))
    assert all_gone(pids)


def succeeds(cluster: Cluster, *args: str) -> bool:
    try:
        cluster.kubectl(*args)
    except KubectlFailed:
        return False
    return True


OWNER = """
import json, os, signal, sys
from pathlib import Path
from tests.cluster.cluster import running
with running(Path(sys.argv[1])) as own:
    fork = os.fork()  # has the owner's end of the pipe to the supervisor too
    if not fork:
        signal.pause()
    print(json.dumps([fork, own.supervisor.pid, *own.pids.values()]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("victim", ["owner", "supervisor"])
def test_nothing_is_left_when_somebody_is_killed(tmp_path, victim):
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        fork, supervisor, *servers = json.loads(owner.stdout.readline())
        try:
            assert all(map(alive, [supervisor, *servers]))
            os.kill(owner.pid if victim == "owner" else supervisor, signal.SIGKILL)
            until(lambda: all_gone([supervisor, *servers]))
        finally:
            os.kill(fork, signal.SIGKILL)
            owner.kill()


def test_up_and_down(tmp_path):
    def command(*args: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "tests.cluster", *args, "--folder", str(tmp_path / "kept")]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)

    up = command("up", "--nodes", "2")
    try:
        assert up.returncode == 0, up.stderr
        exports = [line.removeprefix("export ") for line in up.stdout.splitlines()]
        shell = {**os.environ, "KUBECONFIG": exports[0].removeprefix("KUBECONFIG=")}
        kubectl = binaries.ensure(print)["kubectl"]
        assert exports[1] == f"PATH={kubectl.parent}:$PATH"
        nodes = subprocess.run(
            [kubectl, "get", "nodes", "-o", "name"], env=shell, capture_output=True, text=True
        )
        assert nodes.stdout.split() == ["node/node-0", "node/node-1"]
        keeper = psutil.Process(int((tmp_path / "kept" / "keeper.pid").read_text()))
        # The supervisor with five servers, and the forking process with the controller.
        pids = [keeper.pid, *(child.pid for child in keeper.children(recursive=True))]
        assert len(pids) == 9
        assert Path(f"/proc/{keeper.pid}/fd/1").readlink() == Path(os.devnull)
        again = command("up")
        assert again.returncode == 1
        assert "there is one already" in again.stderr
    finally:
        down = command("down")
    assert down.stdout == "ended\n"
    assert all_gone(pids)
    assert not (tmp_path / "kept").exists()
    assert command("down").stdout == "no cluster is running\n"


def test_one_that_is_still_starting_can_be_ended(tmp_path, monkeypatch):
    """`up` was interrupted, and its keeper goes on by itself."""
    found = []

    @contextmanager
    def starting(folder, nodes):
        found.append(int((folder / "keeper.pid").read_text()))
        sys.exit(0)
        yield

    monkeypatch.setattr(command_line, "_working", starting)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    CliRunner().invoke(command_line.main, ["keep", "--folder", str(tmp_path)])
    assert found == [os.getpid()]


def test_another_cluster_can_be_used(cluster, tmp_path):
    """As KUBECONFIG_E2E does: no control plane of ours, nodes simulated there, and taken away in the end."""
    with running(tmp_path, kubeconfig=cluster.kubeconfig) as guest:
        assert set(guest.pids) == {"kwok"}
        guest.add_nodes(1, prefix="guest")
    assert all_gone(list(guest.pids.values()))
    with pytest.raises(KubectlFailed, match='"guest-0" not found'):
        cluster.kubectl("get", "node", "guest-0")
