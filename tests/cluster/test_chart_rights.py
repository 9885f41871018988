"""The chart's rights, used: by a controller with its service account, and asked one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from k8s.resources import CALLS, LEASES, RESOURCES, Call, rules
from tests.chart.helm import CHART, Helm
from tests.cluster import program
from tests.cluster.cluster import Cluster, until
from tests.cluster.program import Program
from tests.cluster.rig import CLUSTER, Rig, rigged

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]


# What needs another Sweep than the one below: a Job whose name is taken, a second wave that gets faster.
SELDOM = {("get", "jobs"), ("patch", "jobs")}


@pytest.fixture(scope="module")
def played(fresh: Cluster, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Pods of Sweeps run their programs."""
    if "sweeps.aicsweep.dev" not in fresh.kubectl("get", "crd", "-o", "name"):
        fresh.define_sweeps()
    with rigged(fresh, tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.fixture(scope="module", params=["its namespaces", "all namespaces"])
def installed(request: pytest.FixtureRequest, played: Rig, helm: Helm) -> Iterator[tuple[Cluster, str, str]]:
    """The cluster, the release's namespace and one for Sweeps. The controller's pod is only simulated."""
    kind = request.param.partition(" ")[0]
    namespace, sweeps = (
        played.cluster.add_restricted_namespace(f"{kind}-controller"),
        played.add_namespace(f"{kind}-sweeps"),
    )
    played.cluster.add_restricted_namespace(sweeps)
    values = {
        "cluster": CLUSTER,
        "watchNamespaces": [sweeps] if kind == "its" else [],
        "crds": {"install": False},
    }
    helm("install", "aicsweep", str(CHART), "-n", namespace, "--wait", values=values)
    yield played.cluster, namespace, sweeps
    helm("uninstall", "aicsweep", "-n", namespace, "--wait")


@contextmanager
def controller(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Program]:
    """A process with the Deployment's environment and a token of its service account."""
    spec = cluster.get("deployment", "aicsweep-controller", "-n", namespace)["spec"]["template"]["spec"]
    given = {
        each["name"].removeprefix("AICSWEEP_").lower(): each.get("value", "pod")
        for each in spec["containers"][0]["env"]
        if each["name"].startswith("AICSWEEP_") and each["name"] != "AICSWEEP_LISTEN"
    }
    token = cluster.kubectl("create", "token", spec["serviceAccountName"], "-n", namespace).strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    (folder / "kubeconfig").write_text(json.dumps(config))
    started = program.start(folder / "kubeconfig", folder, **given)
    try:
        yield started
    finally:
        started.popen.kill()
        started.popen.wait()


def test_its_rights_are_enough_for_a_sweep_and_all_are_used(
    installed: tuple[Cluster, str, str], played: Rig, tmp_path: Path
) -> None:
    cluster, namespace, sweeps = installed
    with controller(cluster, namespace, tmp_path) as process:
        quickstart = yaml.safe_load((ROOT / "sweeps/quickstart.yaml").read_text())["spec"]
        results = {"url": str(played.store(sweeps))}
        limits = {"lotMinutes": 1, "ttlSecondsAfterFinished": 0}
        changed = {"backend": "fake", "results": results, "limits": limits, "placement": "everyNode"}
        played.apply(sweeps, "quickstart", **{**quickstart, **changed})
        played.wait(sweeps, "quickstart")
        until(lambda: not played.jobs(sweeps))
        made = {
            (call.verb, call.resource.plural): [
                process.count("aicsweep_api_calls_total", verb=call.verb, resource=call.resource.plural, **of)
                for of in ({}, {"result": "Forbidden"})
            ]
            for call in CALLS
        }
        assert process.end() == 0
    assert not {call for call, (_, refused) in made.items() if refused}
    assert {call for call, (count, _) in made.items() if not count} <= SELDOM
    assert len(played.results(sweeps, "quickstart")) == 2 * 15


def test_each_call_is_allowed_where_sweeps_are(installed: tuple[Cluster, str, str]) -> None:
    cluster, release, sweeps = installed
    home = {call: release if call.resource is LEASES else sweeps for call in CALLS}
    assert may(cluster, release, [asked(call, home[call]) for call in CALLS]) == [True] * len(CALLS)
    # Elsewhere only if all namespaces are watched.
    everywhere = not sweeps.startswith("its")
    of_namespaces = [call for call in CALLS if call.resource.namespaced]
    answers = may(cluster, release, [asked(call, "kube-system") for call in of_namespaces])
    assert answers == [everywhere and call.resource is not LEASES for call in of_namespaces]


def test_each_rule_is_the_only_one_that_allows_its_call(installed: tuple[Cluster, str, str]) -> None:
    """Take it away, and the server refuses the call."""
    cluster, release, sweeps = installed
    role = ["role", "-n", sweeps] if sweeps.startswith("its") else ["clusterrole"]
    name = "aicsweep-controller" if sweeps.startswith("its") else f"{release}:aicsweep-controller"
    theirs = [
        call
        for call in CALLS
        if call.resource is not LEASES and (role == ["clusterrole"] or call.resource.namespaced)
    ]

    def allow(calls: list[Call]) -> None:
        cluster.kubectl("patch", *role, name, "--type=merge", "-p", json.dumps({"rules": rules(calls)}))

    for call in theirs:
        allow([other for other in theirs if other != call])
        # The server takes a moment to notice.
        until(lambda call=call: may(cluster, release, [asked(call, sweeps)]) == [False], str(call))  # type: ignore[misc]
    allow(theirs)
    until(lambda: all(may(cluster, release, [asked(call, sweeps) for call in theirs])))


def test_what_it_may_not(installed: tuple[Cluster, str, str]) -> None:
    cluster, release, sweeps = installed
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
    known = {(call.verb, call.resource.plural) for call in CALLS if not call.subresource}
    wanted = [
        *(("", "secrets", "", verb) for verb in verbs),
        *(("", "configmaps", "", verb) for verb in verbs),
        *(("", "pods", below, "create") for below in ("", "exec", "attach", "portforward", "eviction")),
        ("", "pods", "log", "get"),
        ("", "serviceaccounts", "token", "create"),
        *(("rbac.authorization.k8s.io", kind, "", verb)
          for kind in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
          for verb in ("create", "patch", "bind", "escalate")),
        ("apiextensions.k8s.io", "customresourcedefinitions", "", "patch"),
        ("", "persistentvolumes", "", "delete"),
        ("", "nodes", "proxy", "get"),
        ("", "namespaces", "", "delete"),
        ("", "users", "", "impersonate"),
        *((each.group, each.plural, "", verb)
          for each in RESOURCES for verb in verbs if (verb, each.plural) not in known),
        # Leases only by their name.
        ("coordination.k8s.io", "leases", "", "get"),
    ]  # fmt: skip
    for where in (sweeps, release, "kube-system", ""):
        questions = [
            {"group": group, "resource": kind, "subresource": below, "verb": verb, "namespace": where}
            for group, kind, below, verb in wanted
        ]
        answers = may(cluster, release, questions)
        assert not [question for question, yes in zip(questions, answers, strict=True) if yes]


def asked(call: Call, namespace: str) -> dict[str, str]:
    """A question to the server's authorizer."""
    name = "aicsweep-controller" if call.resource is LEASES and call.verb != "create" else ""
    return {
        "group": call.resource.group,
        "resource": call.resource.plural,
        "subresource": call.subresource,
        "verb": call.verb,
        "namespace": namespace if call.resource.namespaced else "",
        "name": name,
    }


def may(cluster: Cluster, release: str, questions: list[dict[str, str]]) -> list[bool]:
    """What the server answers the controller of the release in that namespace; `kubectl auth can-i`, in bulk."""
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{release}:aicsweep-controller",
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{release}",
                    "system:authenticated",
                ],
                "resourceAttributes": question,
            },
        }
        for question in questions
    ]
    text = "".join(f"---\n{json.dumps(review)}\n" for review in reviews)
    answered = cluster.kubectl(
        "create", "--validate=strict", "-o", "jsonpath={.status.allowed} ", "-f", "-", stdin=text
    )
    answers = answered.split()
    assert len(answers) == len(questions)
    return [answer == "true" for answer in answers]
