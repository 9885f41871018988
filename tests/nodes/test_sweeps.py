"""Sweeps go their way in real containers on real nodes."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.nodes

SMALL = {"cpu": 1, "memory": "512Mi"}


def test_a_sweep_with_made_up_numbers(bench, namespace):
    with bench.controller(namespace):
        bench.apply(
            namespace,
            "fake",
            backend="fake",
            models=["resnet50", "mobilenet_v2"],
            grid={"cores": [1, 2, 7], "instances": ["fill"]},
            pods={"build": SMALL, "measure": SMALL, "shmSize": "64Mi"},
        )
        bench.wait(namespace, "fake")
    table = bench.table(namespace, "fake")
    assert set(table["status"].to_pylist()) == {"ok"}
    nodes = {pod["spec"]["nodeName"] for pod in bench.pods(namespace, "measure")}
    assert nodes <= {"card-a", "card-b"}
