"""What goes wrong on real nodes: the table is there all the same, each slot measured as often as need be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.cluster import until
from tests.nodes.bench import S3_PLACE, Bench
from tests.nodes.conftest import CARDS
from tests.nodes.test_sweeps import SMALL

pytestmark = [pytest.mark.nodes, pytest.mark.cluster, pytest.mark.timeout(900)]

AWAY_S = 15
# Eight cells of two seconds each (as the images have the fake backend sleep), four lots, two at once.
SWEEP: dict[str, Any] = {
    "backend": "fake",
    "models": ["resnet50", "mobilenet_v2"],
    "objectives": ["best-throughput"],
    "grid": {"cores": [1, 2, 7, 14], "instances": ["fill"]},
    "limits": {"lotMinutes": 5, "parallelism": 2},
    "pods": SMALL,
}


def measuring(bench: Bench, namespace: str) -> list[Any]:
    return [pod for pod in bench.pods(namespace, "measure") if pod["status"]["phase"] == "Running"]


def play(bench: Bench, namespace: str, strike: Callable[[], None], **spec: Any) -> None:
    """The Sweep, struck once it is measured; it ends with a row of numbers for each of its cells."""
    bench.apply(namespace, "it", **{**SWEEP, **spec})
    until(lambda: measuring(bench, namespace), timeout_s=240)
    strike()
    bench.wait(namespace, "it", timeout_s=420)
    assert [row["status"] for row in bench.table(namespace, "it").to_pylist()] == ["ok"] * 8


def test_kubelet_and_containerd_begin_anew(bench, namespace):
    def strike() -> None:
        for node in CARDS:
            for program in ("containerd", "kubelet"):
                bench.nodes.start(node, program)

    with bench.controller(namespace):
        play(bench, namespace, strike)


def test_devices_fall_ill_while_they_are_used(bench, namespace):
    def strike() -> None:
        for device in ("accel0", "accel1"):
            bench.nodes.set_healthy("card-a", device, False)
        until(lambda: bench.allocatable("card-a") == "0")

    try:
        with bench.controller(namespace):
            play(bench, namespace, strike)
        later = sorted(
            bench.pods(namespace, "measure"), key=lambda pod: pod["metadata"]["creationTimestamp"]
        )[-1]
        assert later["spec"]["nodeName"] == "card-b"
    finally:
        for device in ("accel0", "accel1"):
            bench.nodes.set_healthy("card-a", device, True)
        until(lambda: bench.allocatable("card-a") == "2")


def test_a_node_is_drained(bench, namespace):
    def strike() -> None:
        node = measuring(bench, namespace)[0]["spec"]["nodeName"]
        bench.cluster.kubectl("drain", node, "--force", "--delete-emptydir-data", "--timeout=150s")

    try:
        with bench.controller(namespace):
            play(bench, namespace, strike)
    finally:
        bench.cluster.kubectl("uncordon", *CARDS)


def test_the_store_is_away_and_the_controller_is_killed(bench, namespace):
    try:
        with bench.controller(namespace):
            bench.apply(namespace, "it", **SWEEP)
            until(lambda: measuring(bench, namespace), timeout_s=240)
            bench.nodes.switch(S3_PLACE, False)
        # Pods go on trying for a minute.
        time.sleep(AWAY_S)
    finally:
        bench.nodes.switch(S3_PLACE, True)
    with bench.controller(namespace):
        bench.wait(namespace, "it", timeout_s=420)
    assert [row["status"] for row in bench.table(namespace, "it").to_pylist()] == ["ok"] * 8


def test_an_image_that_is_not_there_is_said(bench, namespace):
    with bench.controller(namespace):
        bench.apply(namespace, "it", **{**SWEEP, "pods": {**SMALL, "buildImage": "localhost/none:1"}})
        until(
            lambda: "localhost/none:1" in str(bench.sweep(namespace, "it").get("status", {}).get("waiting"))
        )
        bench.apply(
            namespace, "it", **{**SWEEP, "models": ["resnet50"], "grid": {"cores": [1], "instances": [1]}}
        )
        bench.wait(namespace, "it")


def test_pods_that_the_kernel_kills_for_memory_end_the_round(bench, namespace):
    small = {**SMALL, "measure": {"cpu": 1, "memory": "24Mi"}}
    with bench.controller(namespace):
        bench.apply(namespace, "it", **{**SWEEP, "limits": {"rounds": 1, "parallelism": 2}, "pods": small})
        until(
            lambda: any(
                "OOMKilled" in str(pod["status"].get("containerStatuses"))
                for pod in bench.pods(namespace, "measure")
            ),
            timeout_s=240,
        )
