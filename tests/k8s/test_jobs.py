"""Manifests of Jobs: whose they are, and when one has failed."""

from __future__ import annotations

import pytest

from tests.k8s.manifests import every_job


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


def test_a_wave_is_a_job_with_an_index_a_lot():
    spec = every_job()["measure"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 64, 16)
