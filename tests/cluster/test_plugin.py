"""`kubectl aicsweep` against a real API server; what its pods do, the shim's programs do for real."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests import s3_server as s3
from tests.cluster.cluster import Cluster, until
from tests.cluster.oracle import is_true
from tests.cluster.scene import SMALL, Plays, Scene

pytestmark = pytest.mark.cluster
_ROOT = Path(__file__).parents[2]
# Nodes of other plays come and go.
_STAYING = {"measureNodeSelector": {"aicsweep.dev/nodes": "rig"}}
play = Plays()


def begun(scene: Scene, *args: str, **environment: str) -> subprocess.Popen[str]:
    """`kubectl aicsweep ARGS` in the scene's namespace, with no trace of this host's AWS settings."""
    clean = {k: v for k, v in scene.rig.cluster.environment().items() if not k.startswith("AWS_")}
    away = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "PYTHONPATH": str(_ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "k8s.plugin", *args, "-n", scene.namespace],
        env={**clean, **away, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", **environment},
        cwd=scene.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def plugin(scene: Scene, *args: str, code: int = 0, **environment: str) -> tuple[str, str]:
    """What it prints on both streams, having ended with `code`."""
    process = begun(scene, *args, **environment)
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, (args, out, err)
    return out, err


def pods_of_the_plugin(scene: Scene) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in scene.pods()
        if pod["metadata"]["labels"]["aicsweep.dev/stage"] in ("table", "doctor")
    ]


def half_done(scene: Scene) -> None:
    """The canary has measured one lot of each model, and what follows hangs."""
    scene.fault("hang", stage="measure", wave="1", times=1000)
    scene.apply(pods=_STAYING)
    until(
        lambda: (
            len(scene.played("measure")) == 2
            and sum(pod["status"]["phase"] == "Running" for pod in scene.pods("measure")) == 2
        ),
        timeout_s=120,
    )


@play
def half_way_and_back(scene: Scene) -> None:
    """Status and table of a Sweep that runs; suspended, resumed, waited for; nothing of it changed the store."""
    half_done(scene)
    before = sorted(str(file) for file in scene.store.rglob("*"))
    out, err = plugin(scene, "table", "it", "-o", "csv")
    assert err == "INCOMPLETE 4/8\n"
    frame = pd.read_csv(io.StringIO(out))
    assert frame["status"].value_counts().to_dict() == {"ok": 4, "missing": 4}
    out, _ = plugin(scene, "table", "it", "--via", "pod")
    assert out.startswith("INCOMPLETE 4/8\n")
    assert sorted(str(file) for file in scene.store.rglob("*")) == before

    seen = json.loads(plugin(scene, "status", "it", "-o", "json")[0])
    (measure,) = (stage for stage in seen["stages"] if stage["stage"] == "measure")
    assert (measure["tasks"], measure["succeeded"]) == (4, 2)
    nodes = {pod["spec"]["nodeName"] for pod in scene.pods("measure") if pod["status"]["phase"] == "Running"}
    assert set(measure["running"]) == nodes
    assert seen["exitCode"] is None
    text, _ = plugin(scene, "status", "it")
    assert text.startswith(f"{scene.namespace}/it: Measuring, round 1 of at most 3\n")
    assert all(node in text for node in nodes)

    plugin(scene, "suspend", "it")
    assert "Suspended" in plugin(scene, "wait", "it", "--for", "condition=Suspended", "--timeout", "60s")[0]
    assert is_true(scene.status, "Suspended")
    _, err = plugin(scene, "wait", "it", "--timeout", "0.1s", code=3)
    assert "kubectl aicsweep resume it" in err
    scene.rig.shim.faults = [f for f in scene.rig.shim.faults if f.namespace != scene.namespace]
    watching = begun(scene, "status", "it", "--watch")
    assert watching.stdout is not None
    assert "Suspended" in watching.stdout.readline()
    plugin(scene, "resume", "it")
    assert "AllMeasured" in plugin(scene, "wait", "it", "--timeout", "90s")[0]
    out, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (0, "")
    assert "AllMeasured" in out
    assert "8 of 8 done" in out
    scene.ends_well()

    out, err = plugin(scene, "table", "it", "-o", "json")
    assert err == ""
    rows, wanted = json.loads(out), scene.rows()
    assert [row["slot"] for row in rows] == [row["slot"] for row in wanted]
    numbers = [row["throughput_images_s"] for row in wanted]
    assert [row["throughput_images_s"] for row in rows] == pytest.approx(numbers)
    assert not pods_of_the_plugin(scene)


@play
def store_that_only_pods_reach(scene: Scene) -> None:
    """A pod with the Sweep's Secret reads it; it needs nothing else, and goes when it has told."""
    with s3.running(scene.folder / "s3") as server:
        server.client().create_bucket(Bucket="bench")
        given = server.environment()
        keys = {
            name: given[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")
        }
        literals = [f"--from-literal={name}={value}" for name, value in keys.items()]
        scene.kubectl("create", "secret", "generic", "keys", *literals)
        scene.apply(results={"url": "s3://bench/it", "secretName": "keys"})
        scene.wait()
        out, err = plugin(scene, "table", "it", "-o", "json")
        assert "from here: " in err
        assert "reading through a pod" in err
        assert given["AWS_SECRET_ACCESS_KEY"] not in out + err
        (ended,) = scene.played("table")
        assert ended.code == 0
        rows = json.loads(out)
        assert [row["status"] for row in rows] == ["ok"] * 8
        assert json.loads(plugin(scene, "table", "it", "-o", "json", "--via", "here", **given)[0]) == rows
        assert len(scene.played("table")) == 1
        plugin(scene, "table", "it", "--via", "here", code=3)

        # Its Jobs are gone: image and Secret stand in the Sweep, or must be given.
        scene.kubectl("delete", "jobs", "--all")
        _, err = plugin(scene, "table", "it", "--via", "pod", code=3)
        assert "--image" in err
        plugin(scene, "table", "it", "--via", "pod", "--image", "measure")
        # What it can't read it says in its own words.
        scene.kubectl("delete", "secret", "keys")
        _, err = plugin(scene, "table", "it", "--via", "pod", "--image", "measure", "--timeout", "5s", code=3)
        assert 'secret "keys" not found' in err
    assert not pods_of_the_plugin(scene)


@play
def failed_cells(scene: Scene) -> None:
    """Exit codes of `wait`, and both kinds of logs."""
    scene.fake(faults=[{"stage": "run", "where": {"cores": 7}, "reason": "garbage"}])
    scene.apply(limits={**SMALL["limits"], "rounds": 1}, pods=_STAYING)
    _, err = plugin(scene, "wait", "it", code=1)
    assert "SomeFailed: 6 ok, 2 failed" in err
    plugin(scene, "wait", "it", "--for", "condition=Suspended", code=1)
    out, _ = plugin(scene, "logs", "it", "--failed")
    headings = [line for line in out.splitlines() if line.startswith("==>")]
    assert len(headings) == 2
    assert all("7x2" in line and "failed, run garbage" in line for line in headings)
    out, _ = plugin(scene, "logs", "it", "--stage", "measure", "--tail", "1")
    measuring = scene.pods("measure")
    assert all(pod["metadata"]["name"] in out for pod in measuring)
    assert out.count('{"done":') == len(measuring)


@play
def asked_again(scene: Scene) -> None:
    """A finished Sweep goes on: only what failed runs again, then only what is infeasible, then what is chosen."""
    scene.fake(
        faults=[
            {"stage": "run", "where": {"cores": 7}, "reason": "garbage"},
            {"stage": "compile", "where": {"cores": 2}, "verdict": "infeasible", "reason": "no-memory"},
        ]
    )
    scene.apply(limits={**SMALL["limits"], "rounds": 1}, pods=_STAYING)
    _, err = plugin(scene, "wait", "it", code=1)
    assert "SomeFailed: 4 ok, 2 infeasible, 2 failed" in err
    before = {row["slot"]: row["started_at"] for row in scene.rows()}
    scene.fake()
    out, _ = plugin(scene, "retry", "it")
    assert out == "sweep.aicsweep.dev/it asked to measure again where status == 'failed'\n"
    _, err = plugin(scene, "wait", "it", code=1)
    assert "SomeFailed: 6 ok, 2 infeasible" in err
    assert {row["cores"] for row in scene.rows() if row["started_at"] != before[row["slot"]]} == {7}
    assert scene.repeated() == 2
    plugin(scene, "retry", "it", "--infeasible")
    plugin(scene, "wait", "it")
    assert scene.repeated() == 4
    plugin(scene, "remeasure", "it", "--where", "ci > 0% and cores == 14")
    plugin(scene, "wait", "it")
    # The table of an undisturbed run; each slot that was asked for was measured once more, and no other.
    scene.ends_well(repeated=6)
    assert {(row["cores"], row["epoch"], row["status"]) for row in scene.rows()} == {
        (1, 0, "ok"), (2, 2, "ok"), (7, 1, "ok"), (14, 3, "ok"),
    }  # fmt: skip
    plugin(scene, "retry", "it", "--failed", "--infeasible")
    plugin(scene, "wait", "it")
    assert scene.repeated() == 6
    told = [
        event["note"]
        for event in json.loads(scene.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    ]
    assert told.count("2 slots to be measured again, as spec.again asks") == 3
    assert "nothing to be measured again, as spec.again asks" in told
    _, err = plugin(scene, "remeasure", "it", "--where", "coars == 1", code=2)
    assert "did you mean cores" in err


@play
def never_begun(scene: Scene) -> None:
    """Invalid and over budget is the user's to mend: 2. Nothing planned has no table."""
    scene.rig.apply(scene.namespace, "wrong", **{**SMALL, "models": ["no-such-model"]})
    _, err = plugin(scene, "wait", "wrong", code=2)
    assert "no-such-model" in err
    _, err = plugin(scene, "table", "wrong", code=3)
    assert "nothing is planned yet (phase: Invalid)" in err
    scene.apply(limits={**SMALL["limits"], "maxDeviceHours": 0.05})
    plugin(scene, "wait", "it", code=2)
    _, err = plugin(scene, "status", "itt", code=2)
    assert "did you mean it?" in err


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
def test_plugin(name: str, played: Callable[[str], str | None]) -> None:
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
