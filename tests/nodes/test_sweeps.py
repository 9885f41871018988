"""Sweeps go their way in real containers on real nodes."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.cluster.api_writes import Writes, counted
from tests.nodes.bench import CARDS, Bench
from tests.nodes.play import SMALL, playing

pytestmark = [pytest.mark.nodes, pytest.mark.cluster, pytest.mark.timeout(1200)]

# For the API server's counts to come to rest.
REST_S = 3.0
# Seen: 12.3 and 13.0. A kubelet writes a pod's status about six times, and here two pods share a Job; on kwok, with
# thousands of pods in a Job, it is 5.07.
MOST_WRITES_A_POD = 16.0


def writes(bench: Bench) -> Writes:
    time.sleep(REST_S)
    return counted(bench.cluster.kubectl("get", "--raw", "/metrics"))


def test_a_sweep_with_made_up_numbers_and_what_it_costs_the_api_server(bench, namespace, capsys):
    with playing(bench, namespace) as play:
        before = writes(bench)
        play.apply(execution="split", limits={"lotMinutes": 5, "parallelism": 4})
        play.ends_well()
        made = writes(bench).since(before)
    pods = made["pods", "POST"]
    with capsys.disabled():
        print(f"\nAPI writes a pod on real kubelets: {made.on_children() / pods:.2f} ({pods} pods; {made})")
    assert made.on_children() / pods <= MOST_WRITES_A_POD
    nodes = {pod["spec"]["nodeName"] for pod in bench.pods(namespace, "measure")}
    assert nodes <= set(CARDS)


@pytest.mark.parametrize("execution", ["split", "combined"])
def test_every_card_of_two_nodes_has_a_row_a_cell(bench, namespace, execution):
    """With the EMULATED tools; a pod that does all by itself has the image with torch and the compiler."""
    measure = {"measureImage": bench.images["build"]} if execution == "combined" else {}
    with bench.controller(namespace):
        bench.apply(
            namespace,
            "fleet",
            backend="qaic",
            models=["squeezenet1_1"],
            weights="random",
            placement="everyDevice",
            execution=execution,
            grid={"cores": [1, 2], "instances": [1], "batchSize": [1]},
            measure={"seconds": 5, "repeats": 2},
            pods={**SMALL, **measure, "measure": {"cpu": 1, "memory": "4Gi"}},
        )
        bench.wait(namespace, "fleet", timeout_s=900)
    rows = bench.table(namespace, "fleet").to_pylist()
    assert {row["status"] for row in rows} == {"ok"}, rows
    cells = Counter(row["target"] for row in rows)
    assert cells == {f"{node}/{number}": 2 for node in CARDS for number in range(2)}
    stages = {pod["metadata"]["labels"]["aicsweep.dev/stage"] for pod in bench.pods(namespace)}
    assert ("compile" in stages) == (execution == "split")
