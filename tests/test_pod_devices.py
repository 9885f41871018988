"""Devices and nodes: at fault, not there, every one of them."""

from tests.pod_tables import GRID, LIMITS, numbers, statuses, undisturbed
from tests.pods import Cluster, killed_by


def test_a_device_at_fault_is_code_3_and_another_pod_does_the_rest(tmp_path, cluster):
    cluster.make_plan()
    cluster.build()
    cluster.fake = {"faults": [{"stage": "run", "verdict": "infrastructure", "reason": "device-hot"}]}
    ended = cluster.measure(0)
    assert ended.code == 3
    assert ended.message["reason"] == "device-given-up"
    assert "device-hot" in ended.message["error"]
    cluster.fake = {}
    cluster.measure_all()
    cluster.merge()
    assert numbers(cluster.table()) == numbers(undisturbed(tmp_path))


TARGETS = [{"node": "node-a", "devices": 2}, {"node": "node-b", "devices": 2}]


def test_every_device_of_every_node_is_measured_by_a_pod_on_its_node(tmp_path):
    cluster = Cluster(tmp_path, grid=GRID, limits=LIMITS, placement="everyDevice")
    cluster.make_plan(AICSWEEP_TARGETS=TARGETS)
    assert cluster.plan["targets"] == {"node-a": [0, 4], "node-b": [4, 4]}
    assert (cluster.plan["slots"], cluster.plan["cells"], cluster.plan["canary"]) == (48, 12, 2)
    cluster.build()
    cluster.fake = {"devices": 2}
    wrong = cluster.measure(4)
    assert (wrong.code, wrong.message["reason"]) == (3, "wrong-node")
    for lot in range(4):
        assert cluster.measure(lot).message == {"done": 6, "failed": 0}
        assert cluster.measure(lot + 4, AICSWEEP_NODE="node-b").message == {"done": 6, "failed": 0}
    cluster.merge()
    rows = cluster.table().to_pylist()
    assert {(r["target"], r["device"], r["node"], r["status"]) for r in rows} == {
        (f"{node}/{k}", f"fake-{k}", node, "ok") for node in ("node-a", "node-b") for k in (0, 1)
    }
    # Made-up cards are all alike.
    assert {r["fleet_ratio"] for r in rows} == {1.0}
    assert {r["rank"] for r in rows if r["model"] == "resnet50"} == set(range(1, 7))


def test_what_died_beside_a_killer_on_another_device_is_not_blamed(tmp_path):
    # Each device has a slot of its own in flight when the pod dies.
    cluster = Cluster(tmp_path, models=["resnet50"], placement="everyDevice")
    cluster.make_plan(AICSWEEP_TARGETS=[{"node": "node-a", "devices": 3}])
    cluster.build()
    cluster.fake = {
        "devices": 3,
        "sleep_s": 0.5,
        "faults": [{"stage": "run", "where": {"device": "1"}, "verdict": "kill"}],
    }
    assert killed_by(cluster, "measure", 0, 9) == 3
    cluster.merge()
    assert {r["target"]: r["status"] for r in cluster.table().to_pylist()} == {
        "node-a/0": "ok", "node-a/1": "failed", "node-a/2": "ok",
    }  # fmt: skip


def test_a_device_that_is_not_there_leaves_its_slots_missing_with_the_reason(tmp_path):
    cluster = Cluster(tmp_path, models=["resnet50"], placement="everyDevice")
    cluster.make_plan(AICSWEEP_TARGETS=[{"node": "node-a", "devices": 3}])
    cluster.build()
    cluster.fake = {"devices": 2}
    assert cluster.measure(0).message == {"done": 2, "failed": 1}
    cluster.merge()
    assert statuses(cluster.table()) == {"ok": 2, "missing run device-absent": 1}


def test_every_node_is_measured_on_one_of_its_devices_and_the_unreached_say_why(tmp_path):
    cluster = Cluster(tmp_path, models=["resnet50"], grid={"cores": [1, 2]}, placement="everyNode")
    cluster.make_plan(AICSWEEP_TARGETS=[*TARGETS, {"node": "node-c", "devices": 1}])
    cluster.build()
    cluster.fake = {"devices": 2}
    assert cluster.measure(0).message == {"done": 2, "failed": 0}
    merged = cluster.merge(AICSWEEP_UNREACHED={"node-b": "no pod started within 60 min"})
    # Whom nobody reaches nobody wants to measure again.
    assert merged["wanted"] == 2
    rows = {(r["target"], r["status"], r["reason"], r["message"]) for r in cluster.table().to_pylist()}
    assert rows == {
        ("node-a", "ok", "", ""),
        ("node-b", "missing", "unreached", "no pod started within 60 min"),
        ("node-c", "missing", None, None),
    }


def test_many_nodes_do_not_fit_a_message_and_are_counted_instead(tmp_path):
    cluster = Cluster(tmp_path, models=["resnet50"], placement="everyNode")
    targets = [{"node": f"ip-10-0-0-{n}.eu-central-1.compute.internal", "devices": 4} for n in range(100)]
    cluster.make_plan(AICSWEEP_TARGETS=targets)
    assert "targets" not in cluster.plan
    assert (cluster.plan["lots"], cluster.plan["lots_per_node"]) == (100, 1)
    assert cluster.planned.node(99) == targets[99]["node"]
