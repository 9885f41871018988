"""Where results lie and what pods are like, read back from a Sweep's Jobs."""

from __future__ import annotations

from typing import Any

import pytest

from k8s import names, short_pod
from k8s.child import Child, Defaults
from k8s.facts import PlanFacts
from k8s.jobs import merge_job, plan_job
from k8s.told import place_of, template
from runner.errors import Infrastructure
from runner.sweepfile import sweep_from_object

DEFAULTS = Defaults(cluster="c", store="s3://b/x", secret_name="keys", build_image="build:1")


def sweep(run: str = "1", generation: int = 1, pods: Any = None, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "aicsweep.dev/v1alpha1",
        "kind": "Sweep",
        "metadata": {"name": "it", "namespace": "a", "uid": "u", "generation": generation},
        "spec": {"backend": "fake", "models": ["resnet50"], "run": run, "pods": pods or {}},
        "status": {"observedGeneration": 1, **status},
    }


def jobs_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    child = Child(found, sweep_from_object(found), DEFAULTS, 1)
    made = [plan_job(child), merge_job(child, PlanFacts(plan="d" * 32, lots=1))]
    for second, job in enumerate(made):
        job["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{second}Z"
    return made


def test_of_one_that_runs_its_plan_is_merged() -> None:
    found = sweep(planDigest="d" * 32)
    place = place_of(found, jobs_of(found))
    assert (place.url, place.digest) == ("s3://b/x/sweeps/c/a/it/1", "d" * 32)


def test_of_one_that_ended_the_table_is_read_also_without_its_jobs() -> None:
    table = "s3://b/x/sweeps/c/a/it/1/tables/0a"
    complete = [{"type": "Complete", "status": "True", "reason": "AllMeasured"}]
    place = place_of(sweep(tableUrl=table, conditions=complete), [])
    assert (place.url, place.digest) == ("s3://b/x/sweeps/c/a/it/1", "")


def test_a_bucket_may_be_named_as_a_folder_of_ours() -> None:
    complete = [{"type": "Complete", "status": "True", "reason": "AllMeasured"}]
    place = place_of(sweep(tableUrl="s3://sweeps/sweeps/c/a/it/1/tables/0a", conditions=complete), [])
    assert (place.store, place.prefix) == ("s3://sweeps", "sweeps/c/a/it/1")


@pytest.mark.parametrize(("reason", "digest"), [("BadInput", "d" * 32), ("OverBudget", "")])
def test_one_that_failed_before_its_merge_shows_no_older_table(reason: str, digest: str) -> None:
    failed = [{"type": "Failed", "status": "True", "reason": reason}]
    table = "s3://b/x/sweeps/c/a/it/1/tables/of-the-spec-before"
    found = sweep(tableUrl=table, planDigest="d" * 32, conditions=failed)
    assert place_of(found, []).digest == digest


def test_jobs_and_table_may_be_of_the_run_before() -> None:
    place = place_of(sweep("2", planDigest="d" * 32), jobs_of(sweep("1")))
    assert place.prefix == "sweeps/c/a/it/2"


@pytest.mark.parametrize("found", [sweep(), sweep(generation=2, planDigest="d" * 32)])
def test_nothing_planned_of_the_spec_as_it_is(found: dict[str, Any]) -> None:
    with pytest.raises(Infrastructure, match="nothing is planned yet"):
        place_of(found, jobs_of(found))


def test_a_pod_that_reads_has_the_secret_and_nothing_more() -> None:
    found = sweep(pods={"cacheClaim": "weights", "hfTokenSecretName": "hub"})
    pod = template(found, jobs_of(found), names.MERGE)
    made = short_pod.reading(pod, found, "table", ["snapshot", "s3://b/x"], 60)
    (container,) = made["spec"]["containers"]
    given = {each["name"]: each for each in container["env"]}
    assert given["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "keys"
    assert not [name for name in given if name.startswith("AICSWEEP_") or name == "HF_TOKEN"]
    assert (container["image"], container["args"]) == ("build:1", ["snapshot", "s3://b/x"])
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert made["spec"]["automountServiceAccountToken"] is False
    assert made["spec"]["activeDeadlineSeconds"] == 60
    assert not [volume for volume in made["spec"]["volumes"] if "persistentVolumeClaim" in volume]
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"
    # The Job is as it was.
    assert jobs_of(found)[0]["spec"]["template"]["spec"]["containers"][0]["args"] == ["pod", "plan"]


def test_a_probe_is_a_measure_pod_with_one_device_there() -> None:
    found = sweep(pods={"measureImage": "measure:1", "deviceGroup": 777, "measure": {"cpu": 8}})
    made = short_pod.probing(template(found, [], names.MEASURE), "a", "n-1", ["doctor"], 60)["spec"]
    assert made["securityContext"]["supplementalGroups"] == [777]
    assert made["containers"][0]["resources"]["limits"] == {
        "cpu": "1",
        "memory": "2Gi",
        "qualcomm.com/qaic": "1",
    }
    (term,) = made["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"][0]["values"] == ["n-1"]


def test_no_job_and_no_image() -> None:
    with pytest.raises(Infrastructure, match="which image") as caught:
        template(sweep(), [], names.MERGE)
    assert "--image" in caught.value.remedy
    assert template(sweep(), [], names.MERGE, "given:1")["containers"][0]["image"] == "given:1"
