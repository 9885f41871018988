"""The chart on a real API server: installed, upgraded, uninstalled and installed again; and its rights, used.

In a cluster of its own: the definition of Sweep is the chart's here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from k8s.resources import CALLS, LEASES, RESOURCES, Call, rules
from tests.chart.helm import CHART, Helm, HelmFailed
from tests.cluster import program
from tests.cluster.cluster import Cluster, KubectlFailed, running, until
from tests.cluster.program import Program
from tests.cluster.rig import CLUSTER, Rig, rigged

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
STORE = {"store": {"dev": {"enabled": True, "storageClassName": "by-hand", "size": "1Gi"}}}
SWEEP = {
    "apiVersion": "aicsweep.dev/v1alpha1",
    "kind": "Sweep",
    "metadata": {"name": "kept"},
    "spec": {"backend": "fake", "models": ["resnet50"], "suspend": True},
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that knows nothing of Sweeps, with two nodes of four devices, and a volume."""
    with running(tmp_path_factory.mktemp("chart")) as started:
        started.add_nodes(2, qaic=4, prefix="chart")
        started.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": "by-hand"},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "by-hand",
                    "hostPath": {"path": "/nowhere"},
                },
            }
        )
        yield started


@pytest.fixture(scope="module")
def helm(fresh: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"), fresh.environment())


def add_namespace(cluster: Cluster, name: str) -> str:
    """One that takes restricted pods only."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}})
    return name


def previous(folder: Path) -> Path:
    """The chart as it may have been: another version, whose Sweeps had another short name."""
    shutil.copytree(CHART, folder / "aicsweep")
    chart, definition = folder / "aicsweep/Chart.yaml", folder / "aicsweep/templates/crd.yaml"
    described = yaml.safe_load(chart.read_text())
    chart.write_text(yaml.safe_dump({**described, "version": "0.0.1", "appVersion": "0.0.1"}))
    text = definition.read_text()
    assert text.count("    - sw\n") == 1
    definition.write_text(text.replace("    - sw\n", "    - oldsw\n"))
    return folder / "aicsweep"


def short_names(cluster: Cluster) -> list[str]:
    found = cluster.get("crd", "sweeps.aicsweep.dev")["spec"]["names"]["shortNames"]
    return list(found)


def uid(cluster: Cluster, *args: str) -> str:
    return str(cluster.get(*args)["metadata"]["uid"])


def ours(cluster: Cluster, namespace: str, kinds: str) -> list[str]:
    """What a release has made there, by kind and name."""
    where = ["-n", namespace, "-l", "app.kubernetes.io/name=aicsweep"]
    return cluster.kubectl("get", kinds, *where, "-o", "name").split()


def test_install_upgrade_uninstall_install(fresh: Cluster, helm: Helm, tmp_path: Path) -> None:
    """Sweeps and results stay, whatever happens to the release."""
    namespace = add_namespace(fresh, "life")
    where = ["aicsweep", "-n", namespace]
    told = helm("install", *where[:1], str(previous(tmp_path)), *where[1:], "--wait", values=STORE)
    assert f"kubectl apply -n {namespace} -f sweeps/quickstart.yaml" in told
    deployment = fresh.get("deployment", "aicsweep-controller", "-n", namespace)
    assert deployment["status"]["readyReplicas"] == 1
    assert ours(fresh, namespace, "statefulsets,secrets") == [
        "statefulset.apps/aicsweep-store", "secret/aicsweep-store",
    ]  # fmt: skip
    fresh.apply(SWEEP, namespace=namespace)
    sweep = uid(fresh, "sweep", "kept", "-n", namespace)
    key = fresh.get("secret", "aicsweep-store", "-n", namespace)["data"]
    claim = uid(fresh, "pvc", "data-aicsweep-store-0", "-n", namespace)
    assert short_names(fresh) == ["oldsw"]

    helm("upgrade", *where[:1], str(CHART), *where[1:], "--wait", values=STORE)
    assert short_names(fresh) == ["sw"]
    image = fresh.get("deployment", "aicsweep-controller", "-n", namespace)["spec"]["template"]["spec"][
        "containers"
    ][0]["image"]
    assert image != deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert fresh.get("secret", "aicsweep-store", "-n", namespace)["data"] == key
    assert uid(fresh, "sweep", "kept", "-n", namespace) == sweep

    helm("uninstall", *where, "--wait")
    kinds = "deployments,statefulsets,services,secrets,serviceaccounts,roles,rolebindings,networkpolicies"
    assert ours(fresh, namespace, kinds) == []
    assert ours(fresh, namespace, "clusterroles,clusterrolebindings") == []
    assert uid(fresh, "sweep", "kept", "-n", namespace) == sweep
    assert uid(fresh, "pvc", "data-aicsweep-store-0", "-n", namespace) == claim

    helm("install", *where[:1], str(CHART), *where[1:], "--wait", values=STORE)
    assert uid(fresh, "sweep", "kept", "-n", namespace) == sweep
    assert (
        fresh.get("crd", "sweeps.aicsweep.dev")["metadata"]["annotations"]["helm.sh/resource-policy"]
        == "keep"
    )

    # What runs in it afterwards is restricted too: the server took all pods, and warned of none.
    pods = fresh.get("pods", "-n", namespace, "-l", "app.kubernetes.io/name=aicsweep")
    assert len(pods) == 2


def test_helm_test_asks_for_the_store(fresh: Cluster, helm: Helm) -> None:
    """Its pod is one that the namespace takes; how it ends is said here in the place of a kubelet."""
    asked = subprocess.Popen(
        [fresh.programs["helm"], "test", "aicsweep", "-n", "life", "--timeout", "60s"],
        env=fresh.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: pod_phase(fresh, "aicsweep-test", "life") == "Running")
        status = json.dumps({"status": {"phase": "Succeeded"}})
        fresh.kubectl("patch", "pod", "aicsweep-test", "-n", "life", "--subresource=status", "-p", status)
        said, _ = asked.communicate(timeout=60)
    finally:
        asked.kill()
    assert asked.returncode == 0, said


def pod_phase(cluster: Cluster, name: str, namespace: str) -> str:
    try:
        return str(cluster.get("pod", name, "-n", namespace).get("status", {}).get("phase", ""))
    except KubectlFailed:
        return ""


def test_a_second_release_leaves_the_definition_to_the_first(fresh: Cluster, helm: Helm) -> None:
    namespace = add_namespace(fresh, "second")
    given = {"watchNamespaces": [namespace]}
    with pytest.raises(HelmFailed, match=r"sweeps\.aicsweep\.dev"):
        helm("install", "aicsweep", str(CHART), "-n", namespace, values=given)
    helm("uninstall", "aicsweep", "-n", namespace, "--ignore-not-found")
    definition = uid(fresh, "crd", "sweeps.aicsweep.dev")
    helm("install", "aicsweep", str(CHART), "-n", namespace, "--wait",
         values={**given, "crds": {"install": False}})  # fmt: skip
    helm("uninstall", "aicsweep", "-n", namespace, "--wait")
    assert uid(fresh, "crd", "sweeps.aicsweep.dev") == definition


# --- rights


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
        add_namespace(played.cluster, f"{kind}-controller"),
        played.add_namespace(f"{kind}-sweeps"),
    )
    add_namespace(played.cluster, sweeps)
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


# What needs another Sweep than the one below: a Job whose name is taken, a second wave that gets faster.
SELDOM = {("get", "jobs"), ("patch", "jobs")}


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
