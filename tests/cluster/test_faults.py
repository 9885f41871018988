"""Whatever goes wrong on the way, a Sweep ends with the table of an undisturbed run, and its status never lies.

The oracle is `Scene.ends_well`, in every test. Pods die in the shim, the API server misbehaves in the proxy.
"""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from k8s import names
from tests import s3_server as s3
from tests.cluster.cluster import running, until
from tests.cluster.oracle import differences, is_true, results, undisturbed
from tests.cluster.proxy import Answer
from tests.cluster.rig import rigged
from tests.cluster.scene import SLOW_S, SMALL, Plays, Scene, scene

pytestmark = pytest.mark.cluster
# How long the API server is away; in the field it may be minutes (AICSWEEP_TEST_OUTAGE_S=120).
OUTAGE_S = float(os.environ.get("AICSWEEP_TEST_OUTAGE_S", "20"))
STAGES = ("plan", "export", "compile", "measure", "merge")
play = Plays()


# -- the API server, as the controller sees it


@play
def api_away(scene: Scene) -> None:
    """The controller neither ends nor acts on what it remembers, and goes on once it is back."""
    scene.begin()
    scene.lane.away = True
    scene.lane.cut_watches()
    before = scene.status
    time.sleep(OUTAGE_S)
    assert scene.status == before
    scene.lane.away = False
    scene.ends_well()
    assert scene.controller.ends == []


@play.with_settings(silence_s="5")
def watches_silent(scene: Scene) -> None:
    """A connection that a firewall has forgotten looks like one on which nothing happens."""
    scene.begin()
    assert scene.lane.silence_watches() == 2
    scene.ends_well()


@play
def watches_cut(scene: Scene) -> None:
    """Every second."""
    done = threading.Event()

    def cut() -> None:
        while not done.wait(1.0):
            scene.lane.cut_watches()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(cut)
        try:
            scene.apply()
            scene.ends_well()
        finally:
            done.set()


@play
def watches_too_old(scene: Scene) -> None:
    """410: what changed since can't be told any more, list anew."""
    scene.apply()
    until(scene.jobs)
    gone = Answer(410, verb="watch", times=4)
    scene.lane.answers.append(gone)
    scene.lane.cut_watches()
    scene.ends_well()
    assert gone.given == 4


@play
def status_writes_in_conflict(scene: Scene) -> None:
    """Each is refused once before it is taken."""
    conflict = Answer(409, verb="patch", resource="sweeps/status", every=2)
    scene.lane.answers.append(conflict)
    scene.apply()
    scene.ends_well()
    assert conflict.given >= 5


@play
def answers_lost(scene: Scene) -> None:
    """Each write is done, and every second time the controller is told that it timed out."""
    answers = [Answer(504, verb=verb, every=2, passed_on=True) for verb in ("create", "patch", "delete")]
    scene.lane.answers += answers
    scene.apply()
    scene.ends_well()
    assert all(answer.given for answer in answers[:2])


@play
def server_in_trouble(scene: Scene) -> None:
    scene.lane.answers.append(Answer(500, every=3))
    scene.apply()
    scene.ends_well()


@play
def server_overloaded(scene: Scene) -> None:
    """It is asked again when it said, not before."""
    throttled = Answer(429, every=4, times=6, retry_after_s=1)
    scene.lane.answers.append(throttled)
    scene.apply()
    scene.ends_well()
    assert throttled.given == 6


def _storm(status: int, **of: int) -> None:
    def storm(scene: Scene) -> None:
        """Nothing is answered in any other way for a while, and it is asked ever more seldom."""
        scene.fake(sleep_s=SLOW_S)
        scene.apply()
        scene.measuring()
        refused = Answer(status, **of)
        scene.lane.answers.append(refused)
        scene.lane.cut_watches()
        time.sleep(OUTAGE_S / 2)
        scene.lane.answers.remove(refused)
        assert 0 < refused.given < 10 * OUTAGE_S
        scene.ends_well()
        assert scene.controller.ends == []

    storm.__name__ = f"storm_of_{status}"
    play(storm)


_storm(429, retry_after_s=1)
_storm(500)


@play
def stale_reads(scene: Scene) -> None:
    """A server that lags gives lists of before and no news, also to a controller that has just started."""
    scene.fake(sleep_s=SLOW_S)
    scene.apply()
    until(lambda: scene.jobs("export"))
    scene.controller.kill()
    until(lambda: any(job.get("status", {}).get("completionTime") for job in scene.jobs("export")))
    # What it lists now, with something to do and to say, is what it will be given.
    scene.controller.start()
    until(lambda: scene.status.get("cells", {}).get("done"))
    scene.lane.lags = True
    scene.controller.kill()
    scene.controller.start()
    asked = len(scene.lane.calls)
    until(
        lambda: any(call.resource == "sweeps" and call.verb == "watch" for call in scene.lane.calls[asked:])
    )
    time.sleep(OUTAGE_S / 4)
    scene.lane.lags = False
    scene.ends_well()


@play
def job_refused(scene: Scene) -> None:
    """A quota, or a policy: the status says so, and it goes on once it may."""
    refused = Answer(403, verb="create", resource="jobs")
    scene.lane.answers.append(refused)
    scene.apply()
    until(lambda: scene.reason("Progressing") == "Refused")
    refused.times = refused.given
    scene.ends_well()


@play
def api_server_away(outside: Scene) -> None:
    """Killed, and started again after a while: all of the cluster has to find its way back. It has a cluster of
    its own."""
    folder = outside.folder / "cluster"
    with running(folder) as cluster:
        cluster.define_sweeps()
        cluster.add_nodes(2)
        with rigged(cluster, outside.folder) as rig, scene(rig, "outage", outside.folder) as away:
            away.fake(sleep_s=SLOW_S)
            away.apply()
            away.measuring()
            cluster.stop("kube-apiserver")
            time.sleep(OUTAGE_S)
            cluster.start("kube-apiserver")
            away.ends_well(timeout_s=200)
            assert away.controller.ends == []


# -- what people do


@play
def jobs_deleted(scene: Scene) -> None:
    """Behind its back, one of each stage, finished or not."""
    scene.begin()
    jobs = [scene.jobs(stage)[0]["metadata"]["name"] for stage in STAGES[:4]]
    scene.kubectl("delete", "job", "--wait=false", *jobs)
    scene.fake()
    scene.ends_well()


@play
def merge_job_deleted(scene: Scene) -> None:
    """While it writes the table."""
    fault = scene.fault("hang", stage="merge", at_write=2)
    scene.apply()
    until(lambda: fault.struck, timeout_s=90)
    (job,) = scene.jobs("merge")
    scene.kubectl("delete", "job", "--wait=false", job["metadata"]["name"])
    scene.ends_well()


@play
def foreign_job(scene: Scene) -> None:
    """Somebody else's Job has the name: it is left alone, and the status says what to do."""
    scene.controller.kill()
    scene.apply()
    sweep = scene.rig.sweep(scene.namespace, "it")
    assert sweep is not None
    name = names.plan_job(sweep, 1)
    scene.kubectl("create", "job", name, "--image=none")
    scene.controller.start()
    until(lambda: name in scene.status.get("waiting", ""))
    assert scene.reason("Progressing") == "NameTaken"
    assert [job["metadata"]["name"] for job in scene.jobs()] == [name]
    scene.kubectl("delete", "job", name)
    scene.ends_well()


@play
def edited(scene: Scene) -> None:
    """While it is measured: what fits the new spec is kept."""
    scene.begin()
    scene.patch(grid={"cores": [2, 3, 7], "instances": ["fill"]})
    scene.fake()
    scene.ends_well()


@play
def edited_again_and_again(scene: Scene) -> None:
    """Faster than anything can follow."""
    scene.apply()
    for cores in ([1], [2], [1, 2], [3], [1, 2, 3]):
        scene.patch(grid={"cores": cores, "instances": ["fill"]})
    scene.ends_well()


@play
def suspended_and_resumed_in_every_stage(scene: Scene) -> None:
    scene.apply()
    for stage in STAGES:
        until(lambda stage=stage: scene.jobs(stage) or is_true(scene.status, "Complete"))
        scene.patch(suspend=True)
        scene.wait("Suspended")
        scene.patch(suspend=False)
    scene.ends_well()


@play
def deleted_and_made_again(scene: Scene) -> None:
    """Another object of the same name: nothing of the first one's children is taken for its own."""
    scene.begin()
    scene.delete()
    scene.apply()
    scene.fake()
    scene.ends_well(repeated=2)


# -- the store


@contextmanager
def _store_gone(scene: Scene) -> Iterator[None]:
    """A file lies where its folder was."""
    aside = scene.store.with_suffix(".aside")
    scene.store.rename(aside)
    scene.store.write_text("not a folder")
    try:
        yield
    finally:
        scene.store.unlink()
        aside.rename(scene.store)


@play
def store_away(scene: Scene) -> None:
    """A folder that is gone while its lots are measured; pods fail, and are tried again."""
    scene.begin()
    with _store_gone(scene):
        until(lambda: any(played.code == 3 for played in scene.played("measure")))
    scene.fake()
    scene.ends_well()


@play
def store_away_for_longer_than_a_lot_is_tried(scene: Scene) -> None:
    """Lots are given up, and measured in the next round; no node is blamed for it."""
    scene.begin()
    with _store_gone(scene):
        time.sleep(OUTAGE_S)
    scene.fake()
    # The Job controller's pauses become as long as the outage was.
    scene.ends_well(timeout_s=150 + 2 * OUTAGE_S)
    assert not scene.excluded()


@play
def bucket_silent_and_secret_wrong(scene: Scene) -> None:
    """With a wrong key the status says whose fault it is; with the right one it goes on, also through a time
    in which the store says nothing."""
    with s3.running(scene.folder / "s3") as server:
        server.client().create_bucket(Bucket="bench")
        keys = {**server.environment(secret_key="wrong"), "AWS_REGION": "us-east-1"}
        _write_secret(scene, keys)
        scene.apply(results={"url": "s3://bench/it", "secretName": "keys"})
        until(lambda: "AWS_SECRET_ACCESS_KEY" in json.dumps(scene.status), timeout_s=90)
        _write_secret(scene, {**keys, **server.environment()})
        scene.patch(run="2")
        scene.measuring()
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(server.pid, signal.SIGCONT)
        scene.wait()
        where = scene.status["tableUrl"].removeprefix("s3://bench/")
        body = server.client().get_object(Bucket="bench", Key=f"{where}/table.parquet")["Body"].read()
    assert not differences(results(pq.read_table(io.BytesIO(body))), undisturbed(**SMALL))
    assert not scene.lies()


def _write_secret(scene: Scene, keys: dict[str, str]) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys}
    scene.kubectl("apply", "-f", "-", stdin=json.dumps(body))


TINY = {
    "models": ["resnet50"],
    "grid": {"cores": [1, 2], "instances": ["fill"]},
    "limits": {"lotMinutes": 2, "parallelism": 1},
}
SIDE_BY_SIDE = 12


@play
def controller_killed_between_any_two_of_its_calls(whole: Scene) -> str:
    """Before the server gets the n-th, and after the server has done it, for every n of a whole Sweep."""
    rig, folder = whole.rig, whole.folder
    whole.apply(**TINY)
    whole.ends_well()
    assert len(whole.jobs("measure")) == 2

    def kill(case: tuple[int, bool]) -> tuple[bool, str]:
        number, done = case
        name = f"cut-{number}-{'after' if done else 'before'}"
        try:
            with scene(rig, name, folder) as cut:
                cut.controller.kill_at_call(number, done=done)
                cut.apply(**TINY)
                cut.ends_well()
                return cut.controller.ends == [-signal.SIGKILL], ""
        except Exception as error:
            return True, f"{name}: {error}"

    calls, kills, first = len(whole.lane.calls), 0, 1
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        while True:
            numbers = range(first, first + SIDE_BY_SIDE)
            found = list(pool.map(kill, [(number, done) for number in numbers for done in (False, True)]))
            assert [text for _, text in found if text] == []
            cut = [killed for killed, _ in found]
            kills, first = kills + sum(cut), first + SIDE_BY_SIDE
            if not any(cut[-2:]):
                break
    # What is told is seldom the same: news that come together are one pass.
    assert kills > 1.5 * calls
    return f"killed at {kills} boundaries; a whole run makes {calls} calls"


# -- tests


@pytest.mark.parametrize("name", play.names)
def test_fault(name: str, played: Callable[[str], str | None], capsys: pytest.CaptureFixture[str]) -> None:
    if said := played(name):
        with capsys.disabled():
            print(f"\n{name}: {said}")
