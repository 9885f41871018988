"""The contract of pods (docs/pods.md): real processes, an environment, exit codes, messages, and a store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import pod
from runner.pod_orders import read_orders
from runner.store import Store, open_store
from tests.pod_tables import GRID, LIMITS, numbers, statuses, undisturbed
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


# -- tried again


def test_an_index_that_is_tried_again_repeats_nothing(cluster):
    cluster.make_plan()
    cluster.build()
    first = cluster.measure(0)
    before = [entry.key for entry in cluster.home.list("results")]
    assert cluster.measure(0).message == first.message == {"done": 3, "failed": 0}
    assert [entry.key for entry in cluster.home.list("results")] == before


def hanging(cluster: Cluster, lot: int, position: int) -> dict[str, object]:
    """A fault that makes one slot of a lot hang."""
    cell = cluster.planned.lot(lot)[position].cell
    where = {name: getattr(cell, name) for name in ("cores", "instances", "source")}
    return {"stage": "run", "where": where, "verdict": "hang"}


def test_a_pod_that_is_asked_to_end_keeps_what_it_has_and_the_next_does_the_rest(tmp_path, cluster):
    cluster.make_plan()
    cluster.build()
    cluster.fake = {"faults": [hanging(cluster, 0, 2)]}
    running = cluster.indexed("measure", 0)
    running.wait_for("hangs")
    running.terminate()
    ended = running.end()
    assert ended.code == 143
    assert ended.message["reason"] == "terminated"
    kept = cluster.results()
    assert kept.headers["writer"].to_pylist() == ["pod-8-measure"]
    assert kept.table.num_rows == 2
    cluster.fake = {}
    assert cluster.measure(0).message == {"done": 3, "failed": 0}
    slots = cluster.results().table["slot"].to_pylist()
    assert len(slots) == len(set(slots)) == 3


@pytest.mark.parametrize("stage", ["export", "compile"])
def test_export_and_compile_end_when_asked(cluster, stage):
    cluster.make_plan()
    if stage == "compile":
        cluster.indexed("export", 0).end()
        cluster.indexed("export", 1).end()
    cluster.fake = {"faults": [{"stage": stage, "verdict": "hang"}]}
    running = cluster.indexed(stage, 0)
    running.wait_for("hangs")
    running.terminate()
    assert running.end().code == 143


def test_what_hangs_comes_last_when_it_is_tried_again(cluster):
    cluster.make_plan()
    cluster.build()
    cluster.fake = {"faults": [hanging(cluster, 0, 0)]}
    for done in (0, 2):
        running = cluster.indexed("measure", 0)
        running.wait_for("hangs")
        running.terminate()
        assert running.end().code == 143
        assert cluster.results().table.num_rows == done


def test_two_pods_of_one_index_give_each_slot_its_row_once(cluster):
    cluster.make_plan()
    cluster.build()
    ended = [running.end() for running in [cluster.indexed("measure", 0) for _ in range(2)]]
    assert [each.code for each in ended] == [0, 0]
    cluster.merge()
    assert statuses(cluster.table()) == {"ok": 3, "missing": 9}


# -- measured again


def test_a_request_is_settled_by_the_plan_pod_once_and_said(cluster):
    cluster.fake = {"faults": [{"stage": "run", "where": {"cores": 7}, "reason": "garbage"}]}
    cluster.make_plan()
    cluster.build()
    cluster.measure_lots()
    cluster.merge()
    cluster.fake = {}
    cluster.spec |= {"again": [{"id": "a", "where": "status == 'failed' and instances == 1"}]}
    cluster.make_plan()
    assert (cluster.plan["again"], cluster.plan["todo"]) == (2, 4)
    # Round 1 of another generation, or the message was lost: it has chosen already.
    again = cluster.make_plan().message
    assert again == {name: value for name, value in cluster.plan.items() if name != "again"}
    cluster.build()
    cluster.measure_lots()
    assert cluster.merge()["wanted"] == 0
    rows = {
        (row["cores"], row["instances"], row["epoch"], row["status"]) for row in cluster.table().to_pylist()
    }
    assert {row for row in rows if row[0] == 7} == {(7, 1, 1, "ok"), (7, 2, 0, "ok")}
    # What was tried again because rounds were left is not of the request.
    assert {row[2] for row in rows if row[0] != 7} == {0}


@pytest.mark.parametrize("execution", ["split", "combined"])
def test_compile_pods_ask_again_whichever_lot_the_request_chose(cluster, execution):
    """Its binary is made by the first lot that needs it: that of a slot that came with an edit."""
    cluster.fake = {
        "faults": [
            {"stage": "compile", "where": {"cores": 2}, "verdict": "infeasible", "reason": "no-memory"}
        ]
    }
    cluster.spec |= {"models": ["resnet50"], "grid": {"cores": [2], "instances": [1, 2]}}
    cluster.make_plan()
    cluster.build()
    cluster.measure_lots()
    cluster.merge()
    cluster.fake = {}
    cluster.spec |= {
        "grid": {"cores": [2], "instances": [1, 2, 3, 4, 5, 6]},
        "limits": {"lotMinutes": 1},
        "again": [{"id": "a", "where": "status == 'infeasible'"}],
    }
    cluster.make_plan()
    tasks = cluster.planned.by_lot()
    assert {len(lot) for lot in tasks.values()} == {1}
    assert sorted(task.epoch for (task,) in tasks.values()) == [0, 0, 0, 0, 1, 1]
    if execution == "split":
        cluster.build()
    for lot in tasks:
        assert cluster.measure(lot, AICSWEEP_EXECUTION=execution).code == 0
    cluster.merge()
    assert statuses(cluster.table()) == {"ok": 6}


def test_a_request_that_cannot_be_is_code_2_with_its_place(cluster):
    cluster.spec |= {"again": [{"id": "a", "where": "True"}, {"id": "b", "where": "coars == 1"}]}
    ended = cluster.make_plan()
    assert ended.code == 2
    assert "spec.again[1].where: 'coars' is no column of the table" in ended.message["error"]
    cluster.spec |= {"again": [{"id": "a", "where": "cores = 1"}]}
    ended = cluster.make_plan()
    assert ended.code == 2
    assert "spec.again[0].where: 'cores = 1' is no condition" in ended.message["error"]


# -- failures


def test_a_lot_whose_slots_all_failed_is_code_1_and_kept(cluster):
    cluster.make_plan()
    cluster.build()
    cluster.fake = {"faults": [{"stage": "run", "reason": "garbage"}]}
    ended = cluster.measure(1)
    assert ended.code == 1
    assert (ended.message["done"], ended.message["failed"]) == (0, 3)
    assert "garbage" in ended.message["error"]
    assert cluster.merge()["wanted"] == 12
    assert statuses(cluster.table()) == {"failed run garbage": 3, "missing": 9}


def test_an_export_or_binary_that_fails_is_code_1_and_its_slots_say_why(cluster):
    cluster.make_plan()
    resnet = {"source": "torchvision:resnet50"}
    refused = {"source": "torchvision:mobilenet_v2", "cores": 7}
    cluster.fake = {
        "faults": [
            {"stage": "export", "where": resnet, "reason": "export-error"},
            {"stage": "compile", "where": refused, "verdict": "infeasible", "reason": "no-memory"},
        ]
    }
    ended = [cluster.indexed("export", number).end() for number in range(2)]
    assert sorted(each.code for each in ended) == [0, 1]
    assert "export-error" in {each.message.get("reason") for each in ended}
    for number in range(4):
        assert cluster.indexed("compile", number).end().code == 0
    assert {cluster.measure(lot).code for lot in range(4)} == {0, 1}
    cluster.merge()
    assert statuses(cluster.table()) == {
        "ok": 4, "failed export export-error": 6, "infeasible compile no-memory": 2,
    }  # fmt: skip


def test_what_no_pod_made_is_missing_with_the_reason(cluster):
    cluster.make_plan()
    assert cluster.measure(0).code == 1
    for number in range(2):
        cluster.indexed("export", number).end()
    assert cluster.measure(1).code == 1
    cluster.merge()
    assert statuses(cluster.table()) == {
        "missing export not-exported": 3, "missing compile not-compiled": 3, "missing": 6,
    }  # fmt: skip


def test_a_missing_or_foreign_plan_and_numbers_out_of_range(cluster):
    cluster.make_plan()
    assert cluster.indexed("measure", 4).end().code == 2
    assert cluster.indexed("export", 2).end().code == 2
    name = f"plans/{cluster.plan['plan']}.parquet"
    cluster.home.put(name, cluster.home.get(name)[:-100])
    # The store is at fault, and another pod may read it whole.
    assert cluster.indexed("measure", 0).end().code == 3
    ended = cluster.indexed("measure", 0, AICSWEEP_PLAN="0" * 32).end()
    assert ended.code == 3
    assert "doesn't exist" in ended.message["error"]


def test_every_wrong_variable_is_named_in_one_message(cluster):
    ended = cluster.run("measure", AICSWEEP_STORE="", AICSWEEP_PLAN="x", AICSWEEP_FIRST="-1")
    assert ended.code == 2
    assert ended.message["reason"] == "bad-input"
    for name in ("AICSWEEP_STORE", "AICSWEEP_PLAN", "AICSWEEP_FIRST", "JOB_COMPLETION_INDEX"):
        assert name in ended.message["error"]
    assert cluster.run("plan", AICSWEEP_SWEEP='{"spec": ', AICSWEEP_ROUND="1").code == 2
    placement = Cluster(cluster.folder / "pinned", models=["resnet50"], placement="everyNode")
    assert "AICSWEEP_TARGETS" in placement.make_plan().message["error"]


def test_a_sweep_that_cannot_be_used_is_code_2_with_its_problems(tmp_path):
    ended = Cluster(tmp_path, grid={"cores": [15], "setsize": [1]}).make_plan()
    assert ended.code == 2
    assert "spec.grid.setsize" in ended.message["error"]
    many = Cluster(tmp_path / "many", models=[f"nothing-{n}" for n in range(100)]).make_plan()
    assert many.code == 2
    assert many.message["error"].endswith("...")
    assert many.log.count("spec.models") >= 100


@pytest.mark.parametrize("stage", ["plan", "measure"])
def test_a_wrong_secret_is_code_3_and_said(tmp_path, s3_bucket, stage):
    cluster = Cluster(tmp_path, f"s3://{s3_bucket}/bench", models=["resnet50"])
    cluster.make_plan()
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    ended = cluster.make_plan(**wrong) if stage == "plan" else cluster.measure(0, **wrong)
    assert ended.code == 3
    assert "the secret key is wrong" in ended.message["error"]
    assert "Traceback" not in ended.log


def test_a_store_that_cannot_be_written_is_code_3(tmp_path):
    (tmp_path / "file").write_text("")
    ended = Cluster(tmp_path, str(tmp_path / "file" / "below")).make_plan()
    assert ended.code == 3
    assert "Traceback" not in ended.log


def test_a_message_is_cut_to_a_kilobyte_of_json_whatever_is_in_it():
    for text in ("x" * 5000, "ü" * 5000, '\n"\\' * 2000, "\x00" * 3000):
        data = pod.encoded({"error": text, "reason": "bad-input"})
        assert 900 < len(data) <= pod.MESSAGE_BYTES
        assert json.loads(data)["reason"] == "bad-input"


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
    for name in ("get", "put", "put_new", "list", "exists", "upload", "download"):
        original = getattr(Store, name)

        def counted(self, key="", *rest, _original=original, _name=name):
            requests.append((_name, f"{self.url}/{key}"))
            return _original(self, key, *rest)

        monkeypatch.setattr(Store, name, counted)
    assert run("measure")["done"] == 50
    markers = [request for request in requests if "/inflight/" in request[1]]
    assert len(markers) / 50 <= 0.05
    # The plan, what export and compile said, a graph, a binary, results and their samples.
    assert len(requests) - len(markers) == 7
