"""What a Sweep leaves open, and the operator has set."""

from __future__ import annotations

from dataclasses import replace

from runner.pod_settings import Pods
from runner.sweepfile import sweep_from_object
from tests.k8s.manifests import DEFAULTS
from tests.k8s.world import sweep


def test_a_sweep_inherits_what_it_leaves_out_field_by_field():
    given = {"deviceGroup": 7, "build": {"cpu": 9, "memory": "9Gi"}, "measureNodeSelector": {"pool": "cards"}}
    defaults = replace(DEFAULTS, pods=Pods.model_validate(given))

    def inherited(**pods):
        return defaults.completed(sweep_from_object(sweep(pods=pods))).spec.pods

    assert inherited() == defaults.pods
    # What is said counts, even where it is what would have been the default, or nothing.
    said = inherited(deviceGroup=995, build={"cpu": 2}, measureNodeSelector={}, deviceResource="")
    assert said.device_group == 995
    assert (said.build.cpu, said.build.memory) == (2, "9Gi")
    assert said.measure_node_selector == {}
    assert said.device_resource == ""
