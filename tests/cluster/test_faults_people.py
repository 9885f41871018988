"""What people, other controllers and other versions of this one do meanwhile."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from k8s import names
from tests.cluster.cluster import until
from tests.cluster.connection import Refused
from tests.cluster.oracle import differences, is_true, undisturbed
from tests.cluster.proxy import Call, Lane
from tests.cluster.rig import Controller
from tests.cluster.scene import SLOW_S, SMALL, Plays, Scene

pytestmark = pytest.mark.cluster
# A release is to pass 1,000 of them (AICSWEEP_TEST_DELETIONS=1000, some minutes more).
DELETIONS = int(os.environ.get("AICSWEEP_TEST_DELETIONS", "150"))
MERGE_PATCH = "application/merge-patch+json"
play = Plays()


# -- controllers


def _writes(lane: Lane, since: int = 0) -> list[Call]:
    """To what is decided about."""
    return [
        call
        for call in lane.calls[since:]
        if call.verb in ("create", "patch", "delete") and call.resource not in ("leases", "events")
    ]


@contextmanager
def _rivals(scene: Scene) -> Iterator[Controller]:
    """The scene's controller leads, and another one would like to."""
    until(lambda: any(call.resource == "leases" and call.verb != "get" for call in scene.lane.calls))
    with scene.rival(lease_s="4") as rival:
        until(lambda: any(call.resource == "leases" for call in rival.lane.calls))
        yield rival


@play.with_settings(lease_s="4")
def two_controllers(scene: Scene) -> None:
    """One acts; the other one knows all, and goes on where the first was killed."""
    scene.fake(sleep_s=SLOW_S)
    with _rivals(scene) as rival:
        scene.apply()
        scene.measuring()
        assert not _writes(rival.lane)
        scene.controller.kill()
        scene.fake()
        scene.ends_well()
        assert _writes(rival.lane)


@play.with_settings(lease_s="4")
def controller_paused_for_longer_than_its_lease(scene: Scene) -> None:
    """Another one has ended the Sweep by the time it goes on: it writes nothing more."""
    scene.fake(sleep_s=SLOW_S)
    with _rivals(scene) as rival:
        scene.apply()
        scene.measuring()
        scene.controller.pause()
        scene.fake()
        scene.wait()
        asked = len(scene.lane.calls)
        scene.controller.go_on()
        until(lambda: sum(call.resource == "leases" for call in scene.lane.calls[asked:]) > 2)
        assert not _writes(scene.lane, asked)
        assert _writes(rival.lane)
        scene.ends_well()


@play
def upgraded_and_rolled_back(scene: Scene) -> None:
    """The newer one said more than this one knows, in the status and on Jobs, and made a Job of a stage of its own."""
    scene.begin()
    assert scene.controller.stop() == 0
    with _newer_definition(scene):
        newer = json.dumps({"status": {"verified": 3}})
        patch = ("patch", "sweep", "it", "--subresource=status", "--type=merge", "-p", newer)
        until(lambda: scene.kubectl(*patch) and _on_server(scene).get("verified") == 3)
        scene.kubectl("annotate", "sweep", "it", "aicsweep.dev/written-by=2.0")
        scene.kubectl("annotate", "job", "--all", "aicsweep.dev/shards=[7]")
        scene.kubectl("label", "job", "--all", "aicsweep.dev/shard=7")
        _add_job(scene, "it-verify", stage="verify")
        scene.fake()
        scene.controller.start()
        scene.ends_well()
        assert _on_server(scene)["verified"] == 3
        # It runs for nobody once the Sweep is over.
        until(lambda: not scene.jobs("verify"))


def _on_server(scene: Scene) -> dict[str, Any]:
    sweep = scene.rig.sweep(scene.namespace, "it")
    assert sweep is not None
    return dict(sweep["status"])


@contextmanager
def _newer_definition(scene: Scene) -> Iterator[None]:
    """Definitions are not rolled back: this one has a field more in the status."""
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/verified"

    def patch(**operation: Any) -> None:
        body = json.dumps([{"path": path, **operation}])
        scene.kubectl("patch", "crd", "sweeps.aicsweep.dev", "--type=json", "-p", body)

    patch(op="add", value={"type": "integer"})
    try:
        yield
    finally:
        patch(op="remove")


def _add_job(scene: Scene, name: str, *, stage: str, owned: bool = True, **labels: str) -> None:
    """A Job that is the Sweep's by its owner, or only looks so, and does nothing."""
    sweep = scene.rig.sweep(scene.namespace, "it")
    assert sweep is not None
    meta = sweep["metadata"]
    owner = {"apiVersion": "aicsweep.dev/v1alpha1", "kind": "Sweep", "name": "it", "uid": meta["uid"]}
    ours = {
        names.MANAGED_BY: names.MANAGER,
        names.LABEL_STAGE: stage,
        names.LABEL_GENERATION: str(meta["generation"]),
    }
    container = {"name": "c", "image": "none"}
    job = {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "labels": {**ours, **labels}, "ownerReferences": [owner] * owned},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }  # fmt: skip
    scene.kubectl("create", "-f", "-", stdin=json.dumps(job))


# -- people


@play
def job_edited_by_hand(scene: Scene) -> None:
    """Suspended, narrowed, and with labels that say nothing: the status says what it waits for, and the rest is
    mended or ignored."""
    scene.begin()
    (job, *_) = [job["metadata"]["name"] for job in scene.jobs("measure") if job["status"].get("active")]
    scene.kubectl("annotate", "job", "--all", "aicsweep.dev/targets=none, or all")
    scene.kubectl(
        "label", "job", "--all", "--overwrite", "aicsweep.dev/wave=second", "aicsweep.dev/round=last"
    )
    scene.kubectl("patch", "job", job, "-p", json.dumps({"spec": {"suspend": True, "parallelism": 0}}))
    until(lambda: f"{job} is suspended" in scene.status.get("waiting", ""))
    scene.fake()
    scene.kubectl("patch", "job", job, "-p", json.dumps({"spec": {"suspend": False}}))
    scene.ends_well()


@play
def malformed_job_beside_healthy_ones(scene: Scene) -> None:
    """Ours by its owner and its label, and nonsense otherwise."""
    scene.begin()
    odd = {
        names.LABEL_WAVE: "x",
        names.LABEL_ROUND: "1.5",
        names.LABEL_PLAN: "none",
        names.LABEL_TARGET: "1e9",
    }
    _add_job(scene, "odd", stage="measure", **odd)
    _add_job(scene, "older", stage="nonsense", **{names.LABEL_GENERATION: "last"})
    _add_job(scene, "nobodys", stage="measure", owned=False)
    scene.fake()
    scene.ends_well()
    assert {"odd", "older", "nobodys"} & set(_names(scene.jobs())) == {"nobodys"}


@play
def quota_reached_and_lifted(scene: Scene) -> None:
    """The status has the server's words until there is room."""
    scene.kubectl("create", "quota", "few", "--hard=count/jobs.batch=1")
    quota = "jsonpath={.status.used}"
    until(lambda: scene.kubectl("get", "quota", "few", "-o", quota))
    scene.apply()
    until(lambda: "exceeded quota: few" in scene.status.get("waiting", ""))
    assert scene.reason("Progressing") == "Refused"
    scene.kubectl("delete", "quota", "few")
    scene.ends_well()
    assert "waiting" not in scene.status


@play
def quota_of_pods_reached_and_lifted(scene: Scene) -> None:
    """The Job is there and its pods are refused: the status says where to look."""
    scene.kubectl("create", "quota", "few", "--hard=pods=0")
    until(lambda: scene.kubectl("get", "quota", "few", "-o", "jsonpath={.status.used}"))
    scene.apply()
    until(lambda: "no pod of Job" in scene.status.get("waiting", ""))
    scene.kubectl("delete", "quota", "few")
    scene.ends_well(timeout_s=180)
    assert "waiting" not in scene.status


# The scene's own namespace, and the one that goes.
_GOES = "namespace-deleted-goes"


@play.with_settings(namespaces=f"namespace-deleted,{_GOES}")
def namespace_deleted(scene: Scene) -> None:
    """With everything in it, while it is measured; a Sweep in another one goes on."""
    rig = scene.rig
    rig.add_namespace(_GOES)
    scene.fake(sleep_s=SLOW_S)
    rig.apply(_GOES, "it", **SMALL, results={"url": str(scene.store)})
    scene.apply()
    until(lambda: rig.jobs(_GOES, "measure"))
    scene.measuring()
    rig.cluster.kubectl("delete", "namespace", _GOES, "--wait=false")
    scene.fake()
    scene.ends_well()
    # Kubernetes looks again half of a pod's grace later (45 s), and once more for what went only then: three looks
    # are more than the usual limit.
    gone = lambda: rig.sweep(_GOES, "it") is None and not rig.jobs(_GOES) and not rig.pods(_GOES)  # noqa: E731
    until(gone, f"all in {_GOES} is gone", timeout_s=240)
    assert scene.controller.ends == []


SWEEPS = ("it", "second", "third")


@play
def deleted_at_random(scene: Scene) -> str:
    """Sweeps, Jobs and pods, gently and by force, with a seed: whatever is left goes on to its end."""
    rig, choose, deleted = scene.rig, random.Random(7), Counter[str]()
    scene.spec = dict(SMALL)
    for name in SWEEPS:
        rig.apply(scene.namespace, name, **SMALL)
    while deleted.total() < DELETIONS:
        time.sleep(choose.uniform(0, 0.1))
        kind = choose.choices(("sweeps", "jobs", "pods"), (1, 6, 4))[0]
        found = {"sweeps": list(SWEEPS), "jobs": _names(scene.jobs()), "pods": _names(scene.pods())}[kind]
        if not found:
            continue
        name = choose.choice(sorted(found))
        _delete(scene, kind, name, choose)
        deleted[kind] += 1
        if kind == "sweeps":
            until(lambda name=name: rig.sweep(scene.namespace, name) is None)  # type: ignore[misc]
            rig.apply(scene.namespace, name, **SMALL)
    for name in SWEEPS:
        _ends(scene, name)
        assert not differences(rig.results(scene.namespace, name), undisturbed(**SMALL))
    assert not scene.lies(), scene.lies()
    until(lambda: all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in scene.pods()))
    until(lambda: not any("deletionTimestamp" in job["metadata"] for job in scene.jobs()))
    return f"{deleted.total()} deletions: {dict(deleted)}"


def _names(found: list[Any]) -> list[str]:
    return [each["metadata"]["name"] for each in found]


def _delete(scene: Scene, kind: str, name: str, choose: random.Random) -> None:
    group = {"sweeps": "/apis/aicsweep.dev/v1alpha1", "jobs": "/apis/batch/v1", "pods": "/api/v1"}[kind]
    how = {"propagationPolicy": choose.choice(("Background", "Foreground"))} if kind != "pods" else {}
    body = {"gracePeriodSeconds": choose.choice((0, 30)), **how} if kind == "pods" else how
    try:
        path = f"{group}/namespaces/{scene.namespace}/{kind}/{name}"
        scene.rig.do(scene.rig.api.request("DELETE", path, body))
    except Refused as error:
        # It has gone by itself, or is going.
        if error.status not in (404, 409):
            raise


def _ends(scene: Scene, name: str) -> None:
    """Well; or, where all tries of a plan or a merge were deleted, it has said so, and an edit sets it going again."""
    status = lambda: scene.rig.status(scene.namespace, name)  # noqa: E731
    until(lambda: is_true(status(), "Complete") or is_true(status(), "Failed"), name, timeout_s=280)
    if is_true(status(), "Failed"):
        scene.rig.patch(scene.namespace, name, limits={**SMALL["limits"], "rounds": 4})
        scene.rig.wait(scene.namespace, name, timeout_s=120)


@play
def queue_that_admits_in_part_and_takes_back(scene: Scene) -> None:
    """As Kueue does it, by `suspend` and `parallelism` of Jobs; the controller writes neither."""
    done, choose, taken_back = threading.Event(), random.Random(11), Counter[str]()

    def flip(job: Any) -> None:
        name, spec = job["metadata"]["name"], job["spec"]
        if any(
            c["status"] == "True"
            for c in job.get("status", {}).get("conditions", ())
            if c["type"] != "Suspended"
        ):
            return
        if spec.get("suspend"):
            part = {"parallelism": choose.randint(1, spec["completions"])} if "completionMode" in spec else {}
            fields = {"suspend": False, **part}
        elif taken_back[name] < 2 and choose.random() < 0.5:
            taken_back[name] += 1
            fields = {"suspend": True}
        else:
            return
        path = f"/apis/batch/v1/namespaces/{scene.namespace}/jobs/{name}"
        try:
            scene.rig.do(scene.rig.api.request("PATCH", path, {"spec": fields}, content=MERGE_PATCH))
        except Refused as error:
            if error.status not in (404, 409, 422):
                raise

    def queue() -> None:
        while not done.wait(0.4):
            for job in scene.jobs():
                flip(job)

    scene.fake(sleep_s=0.1)
    with ThreadPoolExecutor(1) as pool:
        queueing = pool.submit(queue)
        try:
            scene.apply(pods={"queueName": "cards"})
            scene.ends_well(repeated=8, timeout_s=180)
        finally:
            done.set()
        queueing.result()
    assert taken_back.total() > 2
    assert not [call for call in scene.lane.calls if (call.verb, call.resource) == ("patch", "jobs")]


@pytest.mark.parametrize("name", play.names)
def test_fault(name: str, played: Callable[[str], str | None], capsys: pytest.CaptureFixture[str]) -> None:
    if said := played(name):
        with capsys.disabled():
            print(f"\n{name}: {said}")
