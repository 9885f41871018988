import json

import pytest

from runner.errors import BadInput
from runner.pod_orders import NEEDED, read_orders, variable
from tests.samples import sweep

GIVEN = {
    "AICSWEEP_STORE": "s3://bench/aicsweep",
    "AICSWEEP_PREFIX": "sweeps/c/ns/name/1",
    "AICSWEEP_POD": "5f2c-1",
    "AICSWEEP_SWEEP": '{"kind": "Sweep"}',
    "AICSWEEP_ROUND": "2",
    "AICSWEEP_PLAN": "a" * 32,
    "AICSWEEP_FIRST": "64",
    "JOB_COMPLETION_INDEX": "3",
}
TARGETS = json.dumps([{"node": "b", "devices": 1}, {"node": "a.example", "devices": 2}])


def test_the_index_counts_from_the_first_of_its_job():
    orders = read_orders("measure", {**GIVEN, "UNRELATED": "x"})
    assert (orders.number, orders.execution, orders.unreached) == (67, "split", {})


@pytest.mark.parametrize("stage", NEEDED)
def test_whatever_a_stage_needs_is_asked_for_by_name(stage):
    with pytest.raises(BadInput) as caught:
        read_orders(stage, {"AICSWEEP_STORE": ""})
    assert {p.path for p in caught.value.problems} == {
        f"environment variable {variable(name)}" for name in NEEDED[stage]
    }
    read_orders(stage, {variable(name): GIVEN[variable(name)] for name in NEEDED[stage]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AICSWEEP_PREFIX", "../elsewhere//x"),
        ("AICSWEEP_POD", "a/b"),
        ("AICSWEEP_POD", "pod.begun"),
        ("AICSWEEP_ROUND", "0"),
        ("AICSWEEP_CORES", "many"),
        ("AICSWEEP_PLAN", "../x"),
        ("JOB_COMPLETION_INDEX", "-1"),
        ("AICSWEEP_EXECUTION", "both"),
        ("AICSWEEP_TARGETS", "[]"),
        ("AICSWEEP_TARGETS", '[{"node": "a/b", "devices": 1}]'),
        ("AICSWEEP_TARGETS", '[{"node": "a", "devices": 0}]'),
        ("AICSWEEP_UNREACHED", '["a"]'),
    ],
)
def test_a_wrong_value_is_refused(name, value):
    with pytest.raises(BadInput, match=name):
        read_orders("plan", {**GIVEN, name: value})


@pytest.mark.parametrize(
    ("placement", "targets"),
    [
        ("any", {"any": ""}),
        ("everyNode", {"b": "b", "a.example": "a.example"}),
        ("everyDevice", {"b/0": "b", "a.example/0": "a.example", "a.example/1": "a.example"}),
    ],
)
def test_targets_follow_the_placement(placement, targets):
    orders = read_orders("plan", {**GIVEN, "AICSWEEP_TARGETS": TARGETS})
    assert orders.targets_of(sweep(placement=placement)) == targets
