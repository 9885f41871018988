"""Names of children: functions of content, and never too long."""

from __future__ import annotations

from k8s import names
from tests.k8s.manifests import every_job
from tests.k8s.world import sweep


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
