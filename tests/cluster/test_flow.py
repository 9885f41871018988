"""A Sweep's way through a cluster, end to end: real control plane, controller and pods; only nodes are simulated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import KubectlFailed, until
from tests.cluster.oracle import differences, is_true, reason, undisturbed
from tests.cluster.rig import Rig
from tests.cluster.scene import SMALL, Plays, Scene

pytestmark = pytest.mark.cluster
QUICKSTART = Path(__file__).parents[2] / "sweeps/quickstart.yaml"
play = Plays()


def columns(text: str) -> dict[str, str]:
    """The only row of `kubectl get sweeps`."""
    head, row = text.splitlines()
    starts = [head.index(word) for word in head.split()]
    ends = [*starts[1:], None]
    return {name: row[a:b].strip() for name, a, b in zip(head.split(), starts, ends, strict=True)}


@play
def quickstart(scene: Scene) -> None:
    """As a user does it: apply, get, wait, and the table is the one of `aicsweep run`."""
    document = yaml.safe_load(QUICKSTART.read_text())
    document["spec"] |= {"backend": "fake", "limits": {"lotMinutes": 1}}
    scene.fake(sleep_s=0.2)
    scene.kubectl("apply", "-f", "-", stdin=json.dumps(document))
    until(lambda: scene.rig.status(scene.namespace, "quickstart").get("phase") == "Measuring")
    shown = columns(scene.kubectl("get", "sweeps"))
    assert list(shown) == ["NAME", "PHASE", "DONE", "TOTAL", "FAILED", "ETA", "AGE"]
    assert (shown["NAME"], shown["TOTAL"]) == ("quickstart", "15")
    scene.kubectl("wait", "--for=condition=Complete", "sweep/quickstart", "--timeout=120s")
    shown = columns(scene.kubectl("get", "sw"))
    assert (shown["PHASE"], shown["DONE"], shown["TOTAL"], shown["FAILED"]) == ("Complete", "15", "15", "0")
    wanted = undisturbed(**document["spec"])
    assert not differences(scene.rig.results(scene.namespace, "quickstart"), wanted)
    text = scene.kubectl("describe", "sweep", "quickstart")
    assert "15 ok" in text
    assert "AllMeasured" in text
    assert not scene.lies()


@play
def rounds(scene: Scene) -> None:
    """What failed is tried again as often as there are rounds; what can't be is not."""
    scene.fake(
        faults=[
            {"stage": "run", "where": {"cores": 7}, "reason": "garbage"},
            {"stage": "compile", "where": {"cores": 2}, "verdict": "infeasible", "reason": "no-memory"},
        ]
    )
    scene.apply(limits={**SMALL["limits"], "rounds": 2})
    scene.wait()
    assert (scene.status["round"], scene.reason("Complete")) == (2, "SomeFailed")
    cells = scene.status["cells"]
    assert (cells["ok"], cells["failed"], cells["infeasible"], cells["done"]) == (4, 2, 2, 8)
    assert {(row["cores"], row["status"], row["stage"], row["reason"]) for row in scene.results()} == {
        (1, "ok", "", ""),
        (2, "infeasible", "compile", "no-memory"),
        (7, "failed", "run", "garbage"),
        (14, "ok", "", ""),
    }
    assert {job["metadata"]["labels"]["aicsweep.dev/round"] for job in scene.jobs("plan")} == {"1", "2"}
    # The two that failed, once more.
    assert scene.repeated() == 2
    assert not scene.lies()


@play
def every_node(scene: Scene) -> None:
    _every_target(scene, "everyNode", 2)


@play
def every_device(scene: Scene) -> None:
    _every_target(scene, "everyDevice", 4)


def _every_target(scene: Scene, placement: str, targets: int) -> None:
    """Each cell on each of two nodes, or on each of their two devices."""
    label = f"only-{placement.lower()}"
    nodes = scene.rig.cluster.add_nodes(2, qaic=2, prefix=label)
    scene.fake(devices=2)
    try:
        scene.apply(
            models=["resnet50"],
            placement=placement,
            pods={"measureNodeSelector": {"aicsweep.dev/nodes": label}},
        )
        scene.wait()
    finally:
        scene.rig.cluster.remove_nodes(*nodes)
    rows = scene.rows()
    assert {row["status"] for row in rows} == {"ok"}
    assert len({row["target"] for row in rows}) == targets
    assert len(rows) == len({row["slot"] for row in rows}) == 4 * targets
    assert {row["target"].partition("/")[0]: row["node"] for row in rows} == {node: node for node in nodes}
    assert not scene.lies()


@play
def combined(scene: Scene) -> None:
    """No export and compile pods, the same table."""
    scene.apply(execution="combined")
    scene.ends_well()
    stages = {job["metadata"]["labels"]["aicsweep.dev/stage"] for job in scene.jobs()}
    assert stages == {"plan", "measure", "merge"}


@play
def edited_at_its_end(scene: Scene) -> None:
    """Only what is new is measured, and what is no longer wanted leaves the table."""
    scene.apply()
    scene.ends_well()
    before = {row["slot"]: row["started_at"] for row in scene.rows()}
    scene.patch(grid={"cores": [2, 3, 7], "instances": ["fill"]})
    scene.ends_well()
    assert {row["cores"] for row in scene.rows() if before.get(row["slot"]) == row["started_at"]} == {2, 7}


@play
def edited_and_asked_again(scene: Scene) -> None:
    """Both at once; what left the Sweep is not measured again, and comes back as it was."""
    scene.fake(faults=[{"stage": "run", "where": {"cores": 7}, "reason": "garbage"}])
    scene.apply(limits={**SMALL["limits"], "rounds": 1})
    scene.wait()
    scene.fake()
    request = {"id": "a", "where": "status == 'failed' or cores == 1"}
    scene.patch(grid={"cores": [3, 7], "instances": ["fill"]}, again=[request])
    scene.ends_well(repeated=2)
    assert {(row["cores"], row["epoch"]) for row in scene.rows()} == {(3, 0), (7, 1)}
    scene.patch(grid={"cores": [1, 3, 7], "instances": ["fill"]})
    scene.ends_well(repeated=2)
    assert {(row["cores"], row["epoch"]) for row in scene.rows()} == {(1, 0), (3, 0), (7, 1)}


@play
def suspended_and_resumed(scene: Scene) -> None:
    """What was measured until then is kept, nothing runs meanwhile, and the rest follows."""
    scene.begin()
    scene.patch(suspend=True)
    scene.wait("Suspended")
    until(lambda: all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in scene.pods()))
    assert not is_true(scene.status, "Complete")
    scene.fake()
    scene.patch(suspend=None)
    scene.ends_well()


@play
def deleted(scene: Scene) -> None:
    """Its children go too, though their programs would go on for a minute."""
    scene.begin(sleep_s=60)
    scene.delete()
    until(lambda: not scene.jobs() and not scene.pods())
    assert scene.rig.sweep(scene.namespace, "it") is None


@play
def over_budget(scene: Scene) -> None:
    """Refused before anything runs on a device, saying why."""
    scene.apply(limits={**SMALL["limits"], "maxDeviceHours": 0.05})
    scene.wait("Failed")
    assert "maxDeviceHours" in scene.status["message"]
    assert not scene.jobs("measure")


@play
def invalid_beside_healthy(scene: Scene) -> None:
    scene.rig.apply(scene.namespace, "wrong", **{**SMALL, "models": ["no-such-model"]})
    scene.apply()
    scene.ends_well()
    status = scene.rig.status(scene.namespace, "wrong")
    assert (status["phase"], reason(status, "Valid")) == ("Invalid", "Invalid")
    assert "no-such-model" in status["message"]


@play
def secret_missing(scene: Scene) -> None:
    """It says what it waits for, and goes on once that is there."""
    scene.apply(results={"url": str(scene.store), "secretName": "keys"})
    until(lambda: 'secret "keys" not found' in scene.status.get("waiting", ""))
    keys = [f"--from-literal={name}=x" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    scene.kubectl("create", "secret", "generic", "keys", *keys)
    scene.ends_well()
    assert "waiting" not in scene.status


@play
def image_that_cannot_be_pulled(scene: Scene) -> None:
    """It says so; with the right one it goes on."""
    scene.apply(pods={"buildImage": "no-such-image:1"})
    until(lambda: "ImagePullBackOff" in scene.status.get("waiting", ""))
    assert "no-such-image:1" in scene.status["waiting"]
    scene.patch(pods={"buildImage": "build"})
    scene.ends_well()


@pytest.mark.parametrize("name", play.names)
def test_flow(name: str, played: Callable[[str], str | None]) -> None:
    played(name)


def test_a_misspelt_sweep_is_refused_by_the_server(rig: Rig, namespace: str) -> None:
    document = yaml.safe_load(QUICKSTART.read_text())
    document["spec"]["modles"] = document["spec"].pop("models")
    with pytest.raises(KubectlFailed, match="modles"):
        rig.cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(document))
