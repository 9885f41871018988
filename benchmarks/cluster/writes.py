"""What a Sweep costs the API server, and the controller in memory; against one Job a cell."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.cluster.figure import Figure
from benchmarks.cluster.stage import NAMESPACE, PATIENCE_S, Spec, Stage
from benchmarks.cluster.watch import writes
from k8s import names
from tests.cluster.cluster import until
from tests.cluster.program import Program

AXES: dict[str, Any] = {"cores": [1, 2, 4, 7], "instances": [1, 2], "ols": [1, 2, 4], "setSize": [1, 2, 3]}
# About 50 cells a lot.
FIFTY: dict[str, Any] = {"weights": "random", "measure": {"seconds": 5, "repeats": 1}}
LIMITS: dict[str, Any] = {"lotMinutes": 12, "maxCells": 1_000_000, "maxDeviceHours": 1_000_000}
# For counts to come to rest: the metrics are the server's, the last writes may be under way.
REST_S = 2.0


def real(stage: Stage) -> Iterator[Figure]:
    """5,000 cells of five models in lots of 50; the programs of all pods run. Children are deleted soon after."""
    spec = {
        **FIFTY,
        "models": ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"],
        "grid": {**AXES, "batchSize": list(range(1, 15))},
        "limits": {**LIMITS, "ttlSecondsAfterFinished": 15},
    }
    with stage.controller() as program:
        stage.play_all()
        yield from _one_sweep(stage, program, spec, cleared=True)
    yield from _naive(stage)


def fleet(stage: Stage) -> Iterator[Figure]:
    """100,000 cells in lots of 50 on 500 simulated nodes of 8 devices. Plan pods run, all others end at once."""
    stage.cluster.add_nodes(500, prefix="fleet")
    spec = {
        **FIFTY,
        "models": ["all"],
        "grid": {**AXES, "batchSize": list(range(1, 28))},
        "limits": {**LIMITS, "parallelism": 250},
    }
    with stage.controller() as program:
        stage.play_plans(stage.plan(spec))
        yield from _one_sweep(stage, program, spec, most_a_pod=5.5)
    yield from _naive(stage)


def fleet_every_node(stage: Stage) -> Iterator[Figure]:
    """200 cells on each of 500 simulated nodes: a Job a node, whose pods follow each other. Plan pods run, all
    others end at once."""
    stage.cluster.add_nodes(500, prefix="fleet")
    spec = {
        **FIFTY,
        "grid": {"cores": [1, 2, 4, 7], "instances": [1, 2], "batchSize": list(range(1, 26))},
        "limits": {**LIMITS, "parallelism": 250},
        "placement": "everyNode",
        "pods": {"measureNodeSelector": {"aicsweep.dev/nodes": "fleet"}},
    }
    with stage.controller() as program:
        stage.play_plans(stage.plan(spec))
        yield from _one_sweep(stage, program, spec)


def _one_sweep(
    stage: Stage, program: Program, spec: Spec, *, most_a_pod: float | None = None, cleared: bool = False
) -> Iterator[Figure]:
    """Writes until it is Complete, and afterwards until its children are `cleared`; what the controller needed."""
    time.sleep(REST_S)
    before, own_before, began = writes(stage.rig), _own(program), time.time()
    name = stage.apply(spec)
    stage.wait(name)
    took_s = time.time() - began
    time.sleep(REST_S)
    counted, own = writes(stage.rig), _own(program) - own_before
    made = counted.since(before)
    # The shim's mark on each pod whose program it runs: no kubelet writes that.
    marks = sum(played.sweep == name for played in stage.rig.shim.played)
    made["pods", "PATCH"] -= marks
    slots = stage.rig.status(NAMESPACE, name)["cells"]["total"]
    pods, jobs = made["pods", "POST"], made["jobs", "POST"]
    shape = f"{slots:,} slots, {pods:,} pods, {jobs} Jobs, {took_s:.0f} s"
    yield Figure("API writes a pod", made.on_children() / pods, "", most_a_pod, pods, shape)
    yield Figure("API writes a cell", made.total() / slots, "", 0.25, slots, str(made))
    yield Figure("the controller's own a cell", own / slots, "", 0.01, slots, f"{own:g} in all")
    if cleared:
        stage.wait_gone(name)
        time.sleep(REST_S)
        more = writes(stage.rig).since(counted)
        yield Figure(
            "  more when its children are deleted, a pod", more.total() / pods, "", None, pods, str(more)
        )
    yield Figure("controller's memory, peak", program.peak_mib(), "MiB", 150)
    states = [json.dumps(state.get("status", {})) for state in stage.states(name)]
    yield Figure("status, the largest", max(map(len, states)) / 1024, "KiB", 16, len(states))


def _own(program: Program) -> float:
    """Writes of the controller; Events and Leases are out."""
    pairs = [(verb, of) for verb in ("create", "patch", "delete") for of in ("jobs", "sweeps")]
    return sum(program.count("aicsweep_api_calls_total", verb=verb, resource=of) for verb, of in pairs)


def _naive(stage: Stage, count: int = 200) -> Iterator[Figure]:
    """A Job for each cell, all made at once; their pods end at once. Nobody has to plan, compile or merge."""
    stage.rig.shim.instead[names.MEASURE] = lambda pod: ""
    before = writes(stage.rig)
    path = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda number: stage.rig.do(stage.rig.api.request("POST", path, _job(number))), range(count)
            )
        )
    naive = [f"naive-{number}" for number in range(count)]
    ended = lambda: {job.sweep for job in list(stage.timeline.jobs.values()) if job.ended_at}  # noqa: E731
    until(lambda: ended().issuperset(naive), timeout_s=PATIENCE_S)
    time.sleep(REST_S)
    made = writes(stage.rig).since(before)
    yield Figure(
        "naive, one Job a cell: API writes a cell", made.on_children() / count, "", None, count, str(made)
    )


def _job(number: int) -> dict[str, Any]:
    labels = {
        names.MANAGED_BY: names.MANAGER,
        names.LABEL_SWEEP: "naive",
        names.LABEL_UID: f"naive-{number}",
        names.LABEL_STAGE: names.MEASURE,
    }
    container = {"name": "aicsweep", "image": "measure", "args": ["pod", names.MEASURE]}
    template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"naive-{number}", "labels": labels},
        "spec": {"template": template},
    }
