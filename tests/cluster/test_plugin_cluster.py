"""`kubectl aicsweep` and what it finds of a cluster: nodes, rights, kubeconfigs, completion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, until
from tests.cluster.scene import SMALL, Plays, Scene
from tests.cluster.typed import begun, plugin, pods_of_the_plugin

pytestmark = pytest.mark.cluster
_ROOT = Path(__file__).parents[2]
play = Plays()


@play
def doctors(scene: Scene) -> None:
    """A pod on each node that pods may go to; the others are told of by what the API says."""
    with some_nodes(scene, "doctored", 2, qaic=1), some_nodes(scene, "bare", 1, qaic=0) as (bare,):
        scene.kubectl("label", "node", bare, "aicsweep.dev/nodes=doctored", "--overwrite")
        scene.kubectl("cordon", "doctored-1")
        scene.apply(suspend=True, pods=only_on("doctored"))
        found = doctored(scene, "it", "--image", "measure", "--store", str(scene.store), code=3)
        assert found["doctored-0", "store"]["level"] == "ok"
        assert found["doctored-0", "shm"]["text"].startswith("/dev/shm")
        assert found["doctored-1", "node"]["text"] == "cordoned"
        assert found[bare, "node"]["text"] == "offers no qualcomm.com/qaic"
        assert {node for node, name in found if name == "aicsweep"} == {"doctored-0"}
        assert not pods_of_the_plugin(scene)

        # Somebody else has the only device.
        scene.fault("hang", stage="doctor")
        other = begun(scene, "doctor", "it", "--image", "measure")
        until(lambda: any(pod["status"]["phase"] == "Running" for pod in scene.pods("doctor")))
        found = doctored(scene, "it", "--image", "measure", "--timeout", "2s", code=3)
        assert "Insufficient qualcomm.com/qaic" in found["doctored-0", "probe"]["text"]
        assert found["doctored-0", "resource"]["text"] == "1 qualcomm.com/qaic, 0 free"

        # Whoever is ended takes the pod away first.
        other.send_signal(signal.SIGTERM)
        other.communicate(timeout=60)
        assert other.returncode == 130
        until(lambda: not pods_of_the_plugin(scene))


@contextmanager
def some_nodes(scene: Scene, prefix: str, count: int, **of: Any) -> Iterator[list[str]]:
    """For pods that tolerate it, so that no other play's are on them when they go."""
    nodes = scene.rig.cluster.add_nodes(count, prefix=prefix, **of)
    scene.kubectl("taint", "node", *nodes, "aicsweep.dev/test=plugin:NoSchedule")
    scene.rig.answer_logs(*nodes)
    try:
        yield nodes
    finally:
        scene.rig.cluster.remove_nodes(*nodes)


def only_on(prefix: str) -> dict[str, Any]:
    """`spec.pods` for measuring on those."""
    tolerations = [{"key": "aicsweep.dev/test", "operator": "Exists"}]
    return {"measureNodeSelector": {"aicsweep.dev/nodes": prefix}, "tolerations": tolerations}


def doctored(scene: Scene, *args: str, code: int = 0) -> dict[tuple[str, str], Any]:
    """Findings by node and name."""
    out, _ = plugin(scene, "doctor", *args, "-o", "json", code=code)
    return {(finding["node"], finding["name"]): finding for finding in json.loads(out)}


@play
def planned(scene: Scene) -> None:
    """What a file would run, on what the cluster has; nothing is made of it."""
    document = {
        "apiVersion": "aicsweep.dev/v1alpha1",
        "kind": "Sweep",
        "metadata": {"name": "it"},
        "spec": {"backend": "fake", **SMALL, "placement": "everyDevice", "pods": only_on("planned")},
    }
    file = scene.folder / "sweep.yaml"
    file.write_text(json.dumps(document))
    with some_nodes(scene, "planned", 2, qaic=2) as nodes:
        summary = json.loads(plugin(scene, "plan", str(file), "-o", "json")[0])
    assert (summary["cells"], summary["slots"]) == (8, 32)
    assert [(node["node"], node["devices"], node["free"]) for node in summary["cluster"]] == [
        (node, 2, 2) for node in nodes
    ]
    _, err = plugin(scene, "plan", str(file), code=3)
    assert "no ready node offers qualcomm.com/qaic" in err
    assert scene.rig.sweep(scene.namespace, "it") is None


@play
def with_few_rights(scene: Scene) -> None:
    """Which right is missing is said; those who may read Sweeps see their status."""
    scene.apply(suspend=True)
    scene.kubectl("create", "serviceaccount", "reader")
    scene.kubectl("create", "role", "reader", "--verb=get,list", "--resource=sweeps.aicsweep.dev")
    scene.kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={scene.namespace}:reader"
    )
    config = json.loads(scene.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"][0]["user"] = {"token": scene.kubectl("create", "token", "reader").strip()}
    file = scene.folder / "reader.kubeconfig"
    file.write_text(json.dumps(config))
    _, err = plugin(scene, "suspend", "it", "--kubeconfig", str(file), code=3)
    assert f"you may not patch sweeps.aicsweep.dev in namespace {scene.namespace}" in err
    assert f"kubectl auth can-i patch sweeps.aicsweep.dev -n {scene.namespace}" in err
    _, err = plugin(scene, "status", "it", KUBECONFIG=str(file), code=3)
    assert "you may not list jobs.batch" in err
    scene.kubectl("create", "role", "more", "--verb=list", "--resource=jobs,pods")
    scene.kubectl(
        "create", "rolebinding", "more", "--role=more", f"--serviceaccount={scene.namespace}:reader"
    )
    plugin(scene, "status", "it", KUBECONFIG=str(file))


@play
def as_kubectl_finds_clusters(scene: Scene) -> None:
    """Several files, a context's namespace, a server that is not there."""
    scene.apply(suspend=True)
    config = json.loads(scene.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    users = {"apiVersion": "v1", "kind": "Config", "users": config.pop("users")}
    context = {**config["contexts"][0]["context"], "namespace": scene.namespace}
    config["contexts"] = [{"name": "here", "context": context}]
    config["current-context"] = "nowhere"
    for name, part in (("users", users), ("rest", config)):
        (scene.folder / name).write_text(json.dumps(part))
    files = os.pathsep.join(str(scene.folder / name) for name in ("rest", "users"))
    done = subprocess.run(
        [sys.executable, "-m", "k8s.plugin", "--context", "here", "status", "it", "-o", "json"],
        env={**scene.rig.cluster.environment(), "KUBECONFIG": files, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["namespace"] == scene.namespace
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (scene.folder / "rest").write_text(json.dumps({**config, "current-context": "here"}))
    _, err = plugin(scene, "status", "it", KUBECONFIG=files, code=3)
    assert "can't get sweeps" in err
    assert "kubectl cluster-info" in err


@pytest.mark.parametrize("name", play.names)
def test_plugin_cluster(name: str, played: Callable[[str], str | None]) -> None:
    played(name)


def test_kubectl_finds_it_and_completes_it(sweeps: Cluster, tmp_path: Path) -> None:
    """By the names that an installation gives to the two commands."""
    for name, module in (("kubectl-aicsweep", "k8s.plugin"), ("kubectl_complete-aicsweep", "k8s.completion")):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        script.chmod(0o755)
    environment = sweeps.environment()
    environment |= {"PATH": f"{tmp_path}{os.pathsep}{environment['PATH']}", "PYTHONPATH": str(_ROOT)}

    def kubectl(*args: str) -> str:
        return subprocess.run(
            ["kubectl", *args], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert kubectl("aicsweep", "--version").startswith("kubectl aicsweep, version")
    assert [line.split("\t")[0] for line in kubectl("__complete", "aicsweep", "su").splitlines()] == [
        "suspend",
        ":4",
    ]
