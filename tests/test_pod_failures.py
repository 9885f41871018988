"""Exit codes and messages of pods that fail."""

import json

import pytest

from runner import pod
from tests.pod_tables import statuses
from tests.pods import Cluster


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
