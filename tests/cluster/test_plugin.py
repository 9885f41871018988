"""`kubectl aicsweep` against a real API server; what its pods do, the shim's programs do for real."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pandas as pd
import pytest

from tests import s3_server as s3
from tests.cluster.cluster import until
from tests.cluster.oracle import is_true
from tests.cluster.scene import SMALL, Plays, Scene
from tests.cluster.typed import begun, plugin, pods_of_the_plugin

pytestmark = pytest.mark.cluster
# Nodes of other plays come and go.
_STAYING = {"measureNodeSelector": {"aicsweep.dev/nodes": "rig"}}
play = Plays()


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


@pytest.mark.parametrize("name", play.names)
def test_plugin(name: str, played: Callable[[str], str | None]) -> None:
    played(name)
