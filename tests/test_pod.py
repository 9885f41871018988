"""The contract of pods (docs/pods.md): real processes, an environment, exit codes, messages, and a store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import pod, transfer
from runner.pod_orders import read_orders
from runner.store import Store, open_store
from tests.pod_tables import GRID, LIMITS, numbers, undisturbed
from tests.pods import PREFIX, Cluster
from tests.samples import sweep

# -- undisturbed


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_pods_give_the_table_of_a_local_run(tmp_path, request, kind):
    url = f"s3://{request.getfixturevalue('s3_bucket')}/bench" if kind == "s3" else ""
    cluster = Cluster(tmp_path, url, grid=GRID, limits=LIMITS)
    assert cluster.make_plan().code == 0
    assert cluster.plan == {
        "plan": cluster.plan["plan"], "round": 1, "lots": 4, "lots_per_node": 4, "canary": 2, "exports": 2,
        "binaries": 6, "cells": 12, "slots": 12, "todo": 12, "wanted": 12, "unfit": 0, "most_slots_a_lot": 3,
        "device_s": 1584.0, "compile_s": 472.0,
    }  # fmt: skip
    cluster.build()
    cluster.measure_all()
    merged = cluster.merge()
    assert merged["counts"] == {"ok": 12, "infeasible": 0, "failed": 0, "unfit": 0, "missing": 0}
    assert merged["wanted"] == 0
    assert set(merged["device_s"]) == {"measuring", "overhead", "failed", "repeated"}
    assert numbers(cluster.table()) == numbers(undisturbed(tmp_path))
    assert set(cluster.table()["node"].to_pylist()) == {"node-a"}
    # Each binary was made once, whichever lots share it.
    compiled = [log.read_text().count(": compiled") for log in tmp_path.glob("pods/*-compile/log")]
    assert sum(compiled) == cluster.plan["binaries"]
    assert cluster.make_plan(2).message["lots"] == 0


def test_a_whole_sweep_by_the_command_itself(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "AICSWEEP_STORE": str(tmp_path / "store"),
        "AICSWEEP_PREFIX": PREFIX,
        "AICSWEEP_POD": "a",
        "AICSWEEP_TERMINATION_LOG": str(tmp_path / "message"),
    }

    def run(stage: str, **more: str) -> dict[str, object]:
        command = [sys.executable, "-c", "from runner.cli import main; main()", "pod", stage]
        done = subprocess.run(
            command, env={**environment, **more}, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "message").read_text())

    wanted = {"apiVersion": "aicsweep.dev/v1alpha1", "kind": "Sweep", "metadata": {"name": "s"}}
    wanted["spec"] = {"backend": "fake", "models": ["resnet50"]}
    planned = run("plan", AICSWEEP_SWEEP=json.dumps(wanted), AICSWEEP_ROUND="1")
    index = {"AICSWEEP_PLAN": str(planned["plan"]), "AICSWEEP_FIRST": "0", "JOB_COMPLETION_INDEX": "0"}
    for stage in ("export", "compile", "measure"):
        assert run(stage, **index) == {"done": 1, "failed": 0}
    assert run("merge", **index)["counts"]["ok"] == 1


def test_what_a_measure_pod_imports():
    heavy = "('pandas', 'scipy', 'boto3', 'onnxruntime', 'torch')"
    code = f"import runner.pod, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.strip() == "[]"


def test_combined_pods_export_and_compile_by_themselves(tmp_path, cluster):
    cluster.make_plan()
    for lot in range(cluster.plan["lots"]):
        assert cluster.measure(lot, AICSWEEP_EXECUTION="combined").code == 0
    cluster.merge()
    assert numbers(cluster.table()) == numbers(undisturbed(tmp_path))


def test_the_cpu_of_a_measure_pod_is_what_a_plan_counts_with(tmp_path):
    cluster = Cluster(
        tmp_path, backend="onnxruntime", models=["resnet50"], grid={"cores": [64, 96], "instances": [1]}
    )
    cluster.make_plan(AICSWEEP_CORES="64")
    assert (cluster.plan["slots"], cluster.plan["unfit"], cluster.plan["binaries"]) == (1, 1, 0)


# -- failures


def test_an_undisturbed_lot_costs_few_requests(tmp_path, monkeypatch):
    root, requests = open_store("memory:"), []
    given = {
        "AICSWEEP_STORE": "memory:",
        "AICSWEEP_PREFIX": PREFIX,
        "AICSWEEP_POD": "a",
        "AICSWEEP_FIRST": "0",
    }
    given["JOB_COMPLETION_INDEX"] = "0"
    grid = {"cores": [1], "instances": [1, 2, 3, 4, 5], "setSize": list(range(1, 11)), "batchSize": [1]}
    wanted = sweep(models=["resnet50"], grid=grid, limits={"lotMinutes": 240})
    given["AICSWEEP_SWEEP"] = wanted.model_dump_json(by_alias=True, exclude_none=True)
    given["AICSWEEP_ROUND"] = "1"

    def run(stage: str) -> dict[str, object]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / stage))
        code, message = pod.STAGES[stage](read_orders(stage, given), root)
        assert code == 0
        return message

    given["AICSWEEP_PLAN"] = run("plan")["plan"]
    run("export")
    run("compile")
    calls = [(Store, name) for name in ("get", "put", "put_new", "list", "exists")]
    for owner, name in [*calls, (transfer, "download")]:
        original = getattr(owner, name)

        def counted(store, key="", *rest, _original=original, _name=name):
            requests.append((_name, f"{store.url}/{key}"))
            return _original(store, key, *rest)

        monkeypatch.setattr(owner, name, counted)
    assert run("measure")["done"] == 50
    markers = [request for request in requests if "/inflight/" in request[1]]
    assert len(markers) / 50 <= 0.05
    # The plan, what export and compile said, a graph, a binary, results and their samples.
    assert len(requests) - len(markers) == 7
