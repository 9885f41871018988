"""What goes wrong on real nodes: the table is there all the same, that of an undisturbed run."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.cluster.cluster import until
from tests.nodes.bench import CARDS, ROOT, S3_PLACE, Bench
from tests.nodes.play import SMALL, Play, playing

pytestmark = [pytest.mark.nodes, pytest.mark.cluster, pytest.mark.timeout(900)]

AWAY_S = 15
GRACE_S = 10


def condition(bench: Bench, node: str, name: str) -> str:
    conditions = bench.cluster.get("node", node)["status"]["conditions"]
    return next(str(c["status"]) for c in conditions if c["type"] == name)


def by_uid(bench: Bench, namespace: str) -> dict[str, Any]:
    """Pods that measure, or have."""
    return {pod["metadata"]["uid"]: pod for pod in bench.pods(namespace, "measure")}


def at_work(pod: Any) -> bool:
    return pod["status"]["phase"] in ("Pending", "Running")


def is_disrupted(pod: Any) -> bool:
    return any(c["type"] == "DisruptionTarget" for c in pod["status"].get("conditions", ()))


# --- a node, a store or a controller: one after the other


@pytest.mark.parametrize("program", ["kubelet", "containerd"])
def test_a_nodes_program_begins_anew(bench, namespace, program):
    with playing(bench, namespace) as play:
        play.apply()
        play.measured()
        for node in CARDS:
            bench.nodes.start(node, program)
        play.ends_well()


def test_devices_fall_ill_while_they_are_used(bench, namespace):
    try:
        with playing(bench, namespace) as play:
            play.apply()
            play.measured()
            for device in ("accel0", "accel1"):
                bench.nodes.set_healthy("card-a", device, False)
            until(lambda: bench.allocatable("card-a") == "0")
            play.ends_well()
            # What begins now is for other cards.
            play.apply(run="again")
            play.ends_well()
        later = sorted(bench.pods(namespace, "measure"), key=lambda pod: pod["metadata"]["creationTimestamp"])
        assert {pod["spec"]["nodeName"] for pod in later[-2:]} == {"card-b"}
    finally:
        for device in ("accel0", "accel1"):
            bench.nodes.set_healthy("card-a", device, True)
        until(lambda: bench.allocatable("card-a") == "2")


def test_a_node_is_drained(bench, namespace):
    try:
        with playing(bench, namespace) as play:
            play.apply()
            node = play.measured()["spec"]["nodeName"]
            bench.cluster.kubectl("cordon", node)
            before = by_uid(bench, namespace)
            evicted = {
                uid for uid, pod in before.items() if pod["spec"].get("nodeName") == node and at_work(pod)
            }
            bench.cluster.kubectl("drain", node, "--force", "--delete-emptydir-data", "--timeout=150s")
            play.ends_well()
        left = by_uid(bench, namespace)
        assert evicted
        assert all(is_disrupted(left[uid]) for uid in evicted & left.keys())
        assert {left[uid]["spec"]["nodeName"] for uid in left.keys() - before.keys()} == {*CARDS} - {node}
    finally:
        bench.cluster.kubectl("uncordon", *CARDS)


def test_a_disk_is_full(bench, namespace):
    """The kubelet evicts what measures there, and what comes again goes elsewhere."""
    node = ""
    try:
        with playing(bench, namespace) as play:
            play.apply()
            node = play.measured()["spec"]["nodeName"]
            # No disk has so much room.
            bench.nodes.configure_kubelet(
                node, localStorageCapacityIsolation=True, evictionHard={"nodefs.available": "99%"}
            )
            until(lambda: condition(bench, node, "DiskPressure") == "True")
            play.ends_well()
    finally:
        if node:
            bench.nodes.configure_kubelet(node)
            until(lambda: condition(bench, node, "DiskPressure") == "False")
            until(lambda: bench.allocatable(node) == "2")
            # Under pressure it has thrown away what no pod used.
            bench.load_images()


def test_the_store_is_away_and_the_controller_is_killed(bench, namespace):
    try:
        with playing(bench, namespace) as play:
            play.apply()
            play.measured()
            bench.nodes.switch(S3_PLACE, False)
        # Pods go on trying for 15 minutes (AICSWEEP_STORE_PATIENCE_S).
        time.sleep(AWAY_S)
    finally:
        bench.nodes.switch(S3_PLACE, True)
    with playing(bench, namespace) as play:
        play.apply()
        play.ends_well()


def test_the_wrong_group_is_named_and_mended(bench, namespace):
    """With the EMULATED tools, which open the device file as the real ones do."""
    spec = {
        "backend": "qaic",
        "models": ["squeezenet1_1"],
        "weights": "random",
        "grid": {"cores": [1], "instances": [1], "batchSize": [1]},
        "measure": {"seconds": 5, "repeats": 2},
        "limits": {"rounds": 1},
    }
    with bench.controller(namespace):
        bench.apply(namespace, "group", **spec, pods={**SMALL, "deviceGroup": 996})
        bench.wait(namespace, "group", timeout_s=600)
        assert [row["status"] for row in bench.table(namespace, "group").to_pylist()] == ["missing"]
        code, said = plugin(bench, namespace, "doctor", "group")
        assert code
        assert "pods.deviceGroup must be the number of the node's group" in said
        bench.apply(namespace, "group", **spec, pods={**SMALL, "deviceGroup": 995})
        bench.wait(namespace, "group", timeout_s=600)
    assert [row["status"] for row in bench.table(namespace, "group").to_pylist()] == ["ok"]


def plugin(bench: Bench, namespace: str, *args: str) -> tuple[int, str]:
    """Exit code and words of `kubectl aicsweep ARGS`."""
    done = subprocess.run(
        [sys.executable, "-m", "k8s.plugin", *args, "-n", namespace],
        env={**bench.cluster.environment(), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


# --- pods: side by side, each in a namespace of its own


def out_of_memory(play: Play) -> None:
    """Files in /dev/shm are the pod's memory: the kernel kills what it has most of, the pod's program."""
    play.apply(pods={**SMALL, "shmSize": "2Gi"})
    pod = play.measured()["metadata"]["name"]
    play.exec(pod, "dd", "if=/dev/zero", "of=/dev/shm/full", "bs=1M")
    until(lambda: "OOMKilled" in str(play.pod(pod)["status"].get("containerStatuses")), timeout_s=60)
    play.ends_well()


def deaf_to_sigterm(play: Play) -> None:
    """It is killed when its grace is over; its lot is measured by the next one."""
    play.apply()
    pod = play.measured()
    play.freeze(pod)
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    play.bench.cluster.kubectl(
        "delete", "pod", name, "-n", play.namespace, f"--grace-period={GRACE_S}", "--wait=false"
    )
    began = time.monotonic()
    until(lambda: uid not in [each["metadata"]["uid"] for each in play.bench.pods(play.namespace)])
    assert time.monotonic() - began > GRACE_S - 2
    play.ends_well()


def image_not_there(play: Play) -> None:
    """The status says which, and another one mends it."""
    play.apply(pods={**SMALL, "measureImage": "localhost/none:1"})
    until(lambda: "localhost/none:1" in str(play.status().get("waiting")), timeout_s=240)
    play.apply()
    play.ends_well()


PLAYS = [out_of_memory, deaf_to_sigterm, image_not_there]


@pytest.fixture(scope="module")
def side_by_side(bench: Bench) -> Iterator[Callable[[str], None]]:
    """Waits for one of PLAYS."""

    def begin(act: Callable[[Play], None]) -> None:
        namespace = f"test-{uuid.uuid4().hex[:8]}"
        bench.add_namespace(namespace)
        with playing(bench, namespace) as play:
            act(play)
        bench.cluster.kubectl("delete", "namespace", namespace, "--wait=false")

    with ThreadPoolExecutor(thread_name_prefix="play") as pool:
        futures: dict[str, Future[None]] = {act.__name__: pool.submit(begin, act) for act in PLAYS}
        yield lambda name: futures[name].result()


@pytest.mark.parametrize("name", [act.__name__ for act in PLAYS])
def test_a_pod(name, side_by_side):
    side_by_side(name)
