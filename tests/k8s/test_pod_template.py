"""Pods: how restricted they are, what they hold, what they are told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from k8s import jobs
from k8s.child import Child
from k8s.facts import Wave
from k8s.pod_template import SECRET_KEYS
from runner.sweepfile import sweep_from_object
from tests.k8s.manifests import DEFAULTS, FACTS, every_job, pod
from tests.k8s.world import environment, sweep


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


def test_every_pod_hears_sigterm_while_it_begins():
    assert all(pod(job)["shareProcessNamespace"] for job in every_job().values())


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


def test_proxies_are_told_to_every_pod():
    document = sweep()
    defaults = replace(DEFAULTS, proxies={"HTTPS_PROXY": "http://proxy:3128"})
    made = Child(document, sweep_from_object(document), defaults, 1)
    for job in (jobs.plan_job(made), jobs.measure_job(made, FACTS, Wave(1, 1, 64), parallelism=16)):
        assert environment(job)["HTTPS_PROXY"] == "http://proxy:3128"


def test_pods_are_told_where_their_work_is():
    made = every_job(run="sdk-1.21")
    assert json.loads(environment(made["plan"])["AICSWEEP_SWEEP"])["spec"]["run"] == "sdk-1.21"
    assert environment(made["measure"])["AICSWEEP_PREFIX"] == "sweeps/local/bench/cnn/sdk-1.21"
    assert environment(made["measure"])["AICSWEEP_FIRST"] == "1"
    assert environment(made["pinned"])["AICSWEEP_FIRST"] == "50"
