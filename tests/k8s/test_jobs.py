"""Manifests: what a restricted pod must be, what it is told, and names that fit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from k8s import jobs, names
from k8s.child import Child, Defaults
from k8s.facts import PlanFacts, Wave, waves
from k8s.pod_template import SECRET_KEYS
from runner.pod_settings import Pods
from runner.sweepfile import sweep_from_object
from tests.k8s.world import sweep

FACTS = PlanFacts(plan="d" * 32, lots=100, canary=1, exports=3, binaries=5, device_s=60_000, compile_s=9700,
                  targets={"n1": [0, 50], "n2": [50, 50]})  # fmt: skip
DEFAULTS = Defaults(store="s3://bench/x", secret_name="s3", build_image="build:1", measure_image="measure:1")


def child(**spec) -> Child:
    document = sweep(**spec)
    return Child(document, sweep_from_object(document), DEFAULTS, 1)


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


def test_proxies_are_told_to_every_pod():
    document = sweep()
    defaults = replace(DEFAULTS, proxies={"HTTPS_PROXY": "http://proxy:3128"})
    made = Child(document, sweep_from_object(document), defaults, 1)
    for job in (jobs.plan_job(made), jobs.measure_job(made, FACTS, Wave(1, 1, 64), parallelism=16)):
        assert environment(job)["HTTPS_PROXY"] == "http://proxy:3128"


def every_job(**spec):
    made = child(**spec)
    return {
        "plan": jobs.plan_job(made),
        "export": jobs.export_job(made, FACTS),
        "compile": jobs.compile_job(made, FACTS, Wave(1, 1, 64)),
        "measure": jobs.measure_job(made, FACTS, Wave(1, 1, 64), parallelism=16),
        "pinned": jobs.pinned_job(made, FACTS, 1, "n2", 4),
        "merge": jobs.merge_job(made, FACTS),
    }


def pod(job):
    return job["spec"]["template"]["spec"]


def environment(job):
    return {e["name"]: e.get("value") for e in pod(job)["containers"][0]["env"]}


@pytest.mark.parametrize("name", every_job())
def test_every_pod_is_restricted_and_guaranteed(name):
    spec = pod(every_job()[name])
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["resources"]["limits"]["cpu"].isdigit()
    assert not any("hostPath" in volume for volume in spec["volumes"])
    assert spec["activeDeadlineSeconds"] > 0


@pytest.mark.parametrize("name", every_job())
def test_which_pods_count_as_failures(name):
    """Bad input fails the Job, a disruption is none; one index leaves the others alone; a pod that is on its way
    out has no other one beside it."""
    spec = every_job()[name]["spec"]
    bad_input, *others, disruption = spec["podFailurePolicy"]["rules"]
    assert (bad_input["action"], bad_input["onExitCodes"]["values"]) == ("FailJob", [2])
    assert disruption["action"] == "Ignore"
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    indexed = name not in ("plan", "merge")
    assert [rule["action"] for rule in others] == (["FailIndex"] if indexed else [])
    assert ("backoffLimitPerIndex" in spec, "backoffLimit" in spec) == (indexed, not indexed)
    assert spec["podReplacementPolicy"] == "Failed"


@pytest.mark.parametrize("name", every_job())
def test_children_are_owned_by_their_sweep(name):
    (owner,) = every_job()[name]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("Sweep", "cnn", "u-1", True)


@pytest.mark.parametrize("name", every_job())
def test_jobs_have_no_deadline_and_no_ttl_of_their_own(name):
    spec = every_job()[name]["spec"]
    assert "activeDeadlineSeconds" not in spec
    assert "ttlSecondsAfterFinished" not in spec
    rules = {rule["action"] for rule in spec["podFailurePolicy"]["rules"]}
    assert rules == (
        {"FailJob", "FailIndex", "Ignore"} if "completionMode" in spec else {"FailJob", "Ignore"}
    )


@pytest.mark.parametrize("name", every_job())
def test_credentials_are_single_keys_of_the_secret(name):
    container = pod(every_job()[name])["containers"][0]
    assert "envFrom" not in container
    keys = {e["name"] for e in container["env"] if "secretKeyRef" in e.get("valueFrom", {})}
    assert keys == set(SECRET_KEYS)


def test_only_measure_pods_hold_a_device_and_build_pods_keep_away_from_cards():
    made = every_job()
    limits = {
        name: pod(job)["containers"][0]["resources"]["limits"].get("qualcomm.com/qaic")
        for name, job in made.items()
    }
    assert limits == {
        "plan": None,
        "export": None,
        "compile": None,
        "measure": "1",
        "pinned": "4",
        "merge": None,
    }
    assert pod(made["measure"])["securityContext"]["supplementalGroups"] == [995]
    terms = pod(made["compile"])["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchExpressions"] == [
        {"key": "qualcomm.com/qaic", "operator": "DoesNotExist"}
    ]
    assert pod(made["compile"])["nodeSelector"]["kubernetes.io/arch"] == "amd64"
    allowed = every_job(pods={"buildOnDeviceNodes": True})["compile"]
    assert "affinity" not in pod(allowed)


def test_what_a_sweep_may_say_of_its_pods_arrives():
    spec = {
        "measure": {"cpu": 6, "memory": "12Gi"}, "measureImage": "mine:2", "imagePullSecrets": ["pull"],
        "measureNodeSelector": {"zone": "a"}, "tolerations": [{"key": "qaic", "operator": "Exists"}],
        "deviceResource": "qualcomm.com/qaic-std", "deviceGroup": 44, "shmSize": "4Gi", "cacheClaim": "weights",
        "hfTokenSecretName": "hf", "priorityClassName": "low",
    }  # fmt: skip
    made = pod(every_job(pods=spec)["measure"])
    container = made["containers"][0]
    assert container["image"] == "mine:2"
    assert container["resources"]["limits"] == {"cpu": "6", "memory": "12Gi", "qualcomm.com/qaic-std": "1"}
    assert made["imagePullSecrets"] == [{"name": "pull"}]
    assert made["nodeSelector"] == {"zone": "a"}
    assert made["tolerations"] == [{"key": "qaic", "operator": "Exists"}]
    assert made["securityContext"]["supplementalGroups"] == [44]
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "weights"}} in made["volumes"]
    assert made["volumes"][-1]["emptyDir"]["sizeLimit"] == "4Gi"
    assert made["priorityClassName"] == "low"
    assert any(e["name"] == "HF_TOKEN" for e in container["env"])


def test_pods_are_told_where_their_work_is():
    made = every_job(run="sdk-1.21")
    assert json.loads(environment(made["plan"])["AICSWEEP_SWEEP"])["spec"]["run"] == "sdk-1.21"
    assert environment(made["measure"])["AICSWEEP_PREFIX"] == "sweeps/local/bench/cnn/sdk-1.21"
    assert environment(made["measure"])["AICSWEEP_FIRST"] == "1"
    assert environment(made["pinned"])["AICSWEEP_FIRST"] == "50"
    assert made["measure"]["spec"]["completions"] == 64
    assert made["measure"]["spec"]["parallelism"] == 16


def test_the_longest_names_and_labels_fit():
    document = sweep()
    document["metadata"]["name"] = "n" * 35
    longest = [
        names.job(document, "d" * 32, names.MEASURE, 99_999),
        names.job(document, "d" * 32, names.MEASURE, 0, 999),
    ]
    # An Indexed Job is refused where its name and the last index make no host name.
    assert max(len(f"{name}-{4 * 1000 - 1}") for name in longest) <= 63
    for job in every_job().values():
        assert all(len(value) <= 63 for value in job["metadata"]["labels"].values())


def test_names_are_functions_of_content():
    one, other = sweep(), sweep()
    assert names.plan_job(one, 1) == names.plan_job(other, 1) != names.plan_job(one, 2)
    other["metadata"]["uid"] = "u-2"
    assert names.plan_job(one, 1) != names.plan_job(other, 1)
    assert names.job(one, "a", "measure", 1) != names.job(other, "a", "measure", 1)
    assert names.job(one, "a", "measure", 1) != names.job(one, "b", "measure", 1)
    edited = sweep()
    edited["metadata"]["generation"] = 2
    assert names.plan_job(one, 1) != names.plan_job(edited, 1)
    # A plan that says the same is the same, whoever wanted it.
    assert names.job(one, "a", "measure", 1) == names.job(edited, "a", "measure", 1)


@pytest.mark.parametrize(("lots", "canary", "parallelism"), [(1, 1, 16), (100, 3, 2), (5, 0, 1), (64, 0, 16)])
def test_waves_cover_every_lot_once(lots, canary, parallelism):
    made = list(waves(PlanFacts(plan="p", lots=lots, canary=canary), parallelism))
    assert [lot for wave in made for lot in range(wave.first, wave.first + wave.count)] == list(range(lots))
    assert [wave.number for wave in made] == list(range(len(made)))
    assert all(wave.count <= max(canary, 4 * parallelism) for wave in made)
