"""The rights the chart gives are the calls that are made."""

from __future__ import annotations

import pytest

from k8s.resources import CALLS, rules
from tests.chart.helm import NAMESPACE, Helm, Object
from tests.chart.rendered import all_of, of, pod_specs


def subject(objects: list[Object], binding: Object) -> bool:
    account = of(objects, "ServiceAccount")["metadata"]["name"]
    return binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]


def granted(objects: list[Object]) -> list[tuple[str, str, str, str, str]]:
    """(where, group, resource, verb, name) of all that the service account may do; where is "" for everywhere."""
    found = []
    roles = {
        (role["kind"], role["metadata"].get("namespace", NAMESPACE), role["metadata"]["name"]): role["rules"]
        for role in all_of(objects, "Role", "ClusterRole")
    }
    for binding in all_of(objects, "RoleBinding", "ClusterRoleBinding"):
        assert subject(objects, binding)
        where = "" if binding["kind"] == "ClusterRoleBinding" else binding["metadata"]["namespace"]
        of_role = binding["roleRef"]["kind"], where or NAMESPACE, binding["roleRef"]["name"]
        for rule in roles.pop(of_role):
            assert set(rule) <= {"apiGroups", "resources", "verbs", "resourceNames"}
            for name in rule.get("resourceNames", [""]):
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        found += [(where, group, resource, verb, name) for verb in rule["verbs"]]
    assert not roles, "a role that nobody has"
    return found


@pytest.mark.parametrize("watched", [[], ["team-a"], ["team-a", "team-b"]], ids=str)
def test_the_rights_are_the_calls(helm: Helm, watched: list[str]) -> None:
    made = helm.render({"watchNamespaces": watched})
    lease = of(made, "Deployment")["metadata"]["name"]
    wanted = set()
    for call in CALLS:
        (rule,) = rules([call])
        what = rule["apiGroups"][0], rule["resources"][0], call.verb
        if call.resource.plural == "leases":
            wanted.add((NAMESPACE, *what, "" if call.verb == "create" else lease))
        else:
            where = watched if watched and call.resource.namespaced else [""]
            wanted |= {(each, *what, "") for each in where}
    assert set(granted(made)) == wanted


def test_of_the_whole_cluster_nothing_is_written(objects: list[Object]) -> None:
    for where, group, resource, verb, _ in granted(objects):
        assert "*" not in (group, resource, verb)
        assert resource not in ("secrets", "pods/exec", "configmaps")
        if not where:
            assert verb in ("list", "watch") or (group, resource) in {
                ("aicsweep.dev", "sweeps/status"), ("batch", "jobs"), ("events.k8s.io", "events"),
            }  # fmt: skip


def test_watching_namespaces_needs_nothing_of_the_cluster(helm: Helm) -> None:
    made = helm.render({"watchNamespaces": ["team-a"], "rbac": {"nodes": False}})
    assert not all_of(made, "ClusterRole", "ClusterRoleBinding")
    assert all(where for where, *_ in granted(made))


def test_rights_and_account_may_be_others(helm: Helm) -> None:
    made = helm.render({"rbac": {"create": False}, "serviceAccount": {"create": False, "name": "ours"}})
    assert not all_of(made, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount")
    assert next(pod_specs(made))["serviceAccountName"] == "ours"
