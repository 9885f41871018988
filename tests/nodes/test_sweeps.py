"""Sweeps go their way in real containers on real nodes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import yaml

from tests.nodes.bench import ROOT
from tests.nodes.conftest import CARDS

pytestmark = [pytest.mark.nodes, pytest.mark.cluster, pytest.mark.timeout(1200)]

SMALL: dict[str, Any] = {
    "build": {"cpu": 1, "memory": "4Gi"},
    "measure": {"cpu": 1, "memory": "1Gi"},
    "shmSize": "64Mi",
}


def test_a_sweep_with_made_up_numbers(bench, namespace):
    with bench.controller(namespace):
        bench.apply(
            namespace,
            "fake",
            backend="fake",
            models=["resnet50", "mobilenet_v2"],
            grid={"cores": [1, 2, 7], "instances": ["fill"]},
            pods=SMALL,
        )
        bench.wait(namespace, "fake")
    table = bench.table(namespace, "fake")
    assert set(table["status"].to_pylist()) == {"ok"}
    nodes = {pod["spec"]["nodeName"] for pod in bench.pods(namespace, "measure")}
    assert nodes <= set(CARDS)


def test_every_card_of_two_nodes_has_a_row_a_cell(bench, namespace):
    with bench.controller(namespace):
        bench.apply(
            namespace,
            "fleet",
            backend="qaic",
            models=["squeezenet1_1"],
            weights="random",
            placement="everyDevice",
            grid={"cores": [1, 2], "instances": [1], "batchSize": [1]},
            measure={"seconds": 5, "repeats": 2},
            pods=SMALL,
        )
        bench.wait(namespace, "fleet", timeout_s=600)
    rows = bench.table(namespace, "fleet").to_pylist()
    assert {row["status"] for row in rows} == {"ok"}, rows
    cells = Counter(row["target"] for row in rows)
    assert cells == {f"{node}/{number}": 2 for node in CARDS for number in range(2)}


def test_the_quickstart_is_measured_in_pods(bench, namespace):
    spec = yaml.safe_load((ROOT / "sweeps/quickstart.yaml").read_text())["spec"]
    spec |= {
        "models": spec["models"][:1],
        "measure": {"seconds": 0.3, "repeats": 2},
        "pods": {**SMALL, "measure": {"cpu": 2, "memory": "1Gi"}},
    }
    with bench.controller(namespace):
        bench.apply(namespace, "quickstart", **spec)
        bench.wait(namespace, "quickstart", timeout_s=600)
    rows = bench.table(namespace, "quickstart").to_pylist()
    assert {row["status"] for row in rows} == {"ok"}, rows
    assert all(row["throughput_images_s"] > 0 for row in rows)
