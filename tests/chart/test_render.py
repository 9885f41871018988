"""What the chart makes of values: parsed objects, by their meaning."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from k8s import generate, jobs, names, serve, values
from k8s.resources import CALLS, rules
from k8s.settings import Settings, read_settings
from runner import __version__
from runner.pod_settings import PodResources, Pods
from runner.sweepfile import sweep_from_object
from tests.chart.helm import CHART, NAMESPACE, Helm, HelmFailed, Object

DIGEST = f"sha256:{'0' * 64}"
EVERYTHING: dict[str, Any] = {
    "cluster": "east",
    "store": {"dev": {"enabled": True, "storageClassName": "fast"}},
    "images": {
        "registry": "registry.example:5000/team",
        "pullPolicy": "Always",
        "pullSecrets": ["pull"],
        "measure": {"repository": "sdk/measure", "digest": DIGEST},
    },
    "pods": {
        "build": {"cpu": 8, "memory": "32Gi"},
        "measure": {"cpu": 4},
        "imagePullSecrets": ["pull"],
        "buildNodeSelector": {"pool": "cpu"},
        "measureNodeSelector": {"pool": "cards"},
        "tolerations": [{"key": "cards", "operator": "Exists", "effect": "NoSchedule"}],
        "deviceResource": "example.com/card",
        "deviceGroup": 2_000_000,
        "shmSize": "4Gi",
        "cacheClaim": "weights",
        "hfTokenSecretName": "hub",
        "priorityClassName": "low",
    },
    "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3128"},
    "controller": {
        "replicas": 2,
        "settings": {"workers": 4, "stop_s": 33.5, "log_level": "debug"},
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
    },
    "serviceAccount": {"annotations": {"a": "b"}},
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one namespace": {"watchNamespaces": [NAMESPACE]},
    "two namespaces": {"watchNamespaces": ["team-a", "team-b"], "rbac": {"nodes": False}},
    "everything": EVERYTHING,
    "everything, one namespace": {**EVERYTHING, "watchNamespaces": ["team-a"]},
}


@pytest.fixture(scope="module", params=CASES)
def objects(request: pytest.FixtureRequest, helm: Helm) -> list[Object]:
    return helm.render(CASES[request.param])


def of(objects: list[Object], kind: str, name: str = "") -> Object:
    """The only one of its kind, or of that name."""
    (found,) = [
        each for each in objects if each["kind"] == kind and (not name or each["metadata"]["name"] == name)
    ]
    return found


def all_of(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def pod_specs(objects: list[Object]) -> Iterator[Object]:
    for each in all_of(objects, "Deployment", "StatefulSet"):
        yield each["spec"]["template"]["spec"]
    for each in all_of(objects, "Pod"):
        yield each["spec"]


def environment(objects: list[Object]) -> dict[str, str]:
    (container,) = of(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "from its pod") for each in container["env"]}


def test_helm_has_nothing_to_say_against_it(helm: Helm) -> None:
    for given in CASES.values():
        assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), values=given)


def test_chart_and_program_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_names_differ_and_fit(objects: list[Object], helm: Helm) -> None:
    for made in (
        objects,
        helm.render(EVERYTHING, release="a-release-with-a-name-of-as-many-letters-as-it-may"),
    ):
        keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in made]
        assert len(keys) == len(set(keys))
        for each in made:
            # A StatefulSet's pods have a label with its name and a hash of eleven characters.
            most = 52 if each["kind"] == "StatefulSet" else 63
            if "Role" not in each["kind"]:
                assert len(each["metadata"]["name"]) <= most, each["metadata"]["name"]
            assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


# --- pods


def test_every_pod_is_restricted(objects: list[Object]) -> None:
    found = list(pod_specs(objects))
    assert found
    for spec in found:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == jobs.USER
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        assert not any("hostPath" in volume for volume in spec.get("volumes", ()))
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"]["memory"]


def test_only_the_controller_has_a_token(objects: list[Object]) -> None:
    for each in all_of(objects, "StatefulSet", "Pod"):
        spec = each["spec"]["template"]["spec"] if "template" in each["spec"] else each["spec"]
        assert spec["automountServiceAccountToken"] is False


def test_an_image_is_named_by_tag_or_digest(helm: Helm) -> None:
    made = helm.render(EVERYTHING)
    (container,) = of(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example:5000/team/aicsweep-controller:{__version__}"
    assert container["imagePullPolicy"] == "Always"
    settings = read_settings(environment(made))
    assert settings.build_image == f"registry.example:5000/team/aicsweep-build:{__version__}"
    assert settings.measure_image == f"registry.example:5000/team/sdk/measure@{DIGEST}"
    tagged = helm.render({"images": {"controller": {"tag": "1.2"}}})
    assert next(pod_specs(tagged))["containers"][0]["image"] == "aicsweep-controller:1.2"


def test_the_probes_are_answered_by_the_program(helm: Helm) -> None:
    (container,) = of(helm.render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    assert len(paths) == 2
    monitor = of(helm.render(EVERYTHING), "ServiceMonitor")
    paths |= {end["path"] for end in monitor["spec"]["endpoints"]}

    async def ask() -> list[int]:
        def get(url: str) -> int:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)

        async with serve.serving("127.0.0.1:0", stale=list, metrics=lambda: b"") as address:
            return [await asyncio.to_thread(get, f"http://{address}{path}") for path in paths]

    assert asyncio.run(ask()) == [200] * 3
    assert container["ports"][0]["containerPort"] == int(environment(helm.render())["AICSWEEP_LISTEN"][1:])


def test_a_controller_has_time_to_end(objects: list[Object]) -> None:
    settings = read_settings(environment(objects))
    spec = of(objects, "Deployment")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= settings.stop_s + settings.request_s


# --- settings


def test_the_controller_takes_its_settings(objects: list[Object]) -> None:
    settings = read_settings(environment(objects))
    assert settings.lease_namespace == NAMESPACE
    assert settings.lease_name == of(objects, "Deployment")["metadata"]["name"]


def test_values_become_settings(helm: Helm) -> None:
    settings = read_settings(environment(helm.render({**EVERYTHING, "watchNamespaces": ["a", "b"]})))
    assert settings.namespaces == ("a", "b")
    assert (settings.workers, settings.stop_s, settings.log_level) == (4, 33.5, "debug")
    defaults = settings.defaults()
    assert (defaults.cluster, defaults.store, defaults.secret_name) == (
        "east",
        "s3://aicsweep/aicsweep",
        "aicsweep-store",
    )
    assert defaults.proxies["https_proxy"] == "http://proxy:3128"
    assert ".svc" in defaults.proxies["NO_PROXY"].split(",")
    assert defaults.pods == Pods.model_validate(EVERYTHING["pods"])
    assert defaults.pods.device_group == 2_000_000
    assert defaults.pods.measure == PodResources(cpu=4)


def test_nothing_said_leaves_the_programs_defaults(helm: Helm) -> None:
    settings = read_settings(environment(helm.render()))
    assert settings.namespaces == ()
    assert settings.pods == Pods()
    assert settings.defaults().proxies == {}
    assert settings.store == settings.store_secret == ""


def test_every_setting_has_its_value(helm: Helm) -> None:
    said = {
        name.removeprefix("AICSWEEP_").lower()
        for name in environment(helm.render({**EVERYTHING, "watchNamespaces": ["a"]}))
    }
    # For running it by hand.
    assert said | set(values.SETTINGS) | {"kubeconfig"} == set(Settings.model_fields)


# --- rights


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


# --- the definition


def test_the_definition_is_the_committed_one_and_stays(helm: Helm) -> None:
    committed = yaml.safe_load((generate.ROOT / "k8s/crd/sweeps.aicsweep.dev.yaml").read_text())
    made = of(helm.render(), "CustomResourceDefinition")
    assert made["spec"] == committed["spec"]
    assert made["metadata"]["name"] == committed["metadata"]["name"]
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert (
        "annotations"
        not in of(helm.render({"crds": {"keep": False}}), "CustomResourceDefinition")["metadata"]
    )
    assert not all_of(helm.render({"crds": {"install": False}}), "CustomResourceDefinition")


# --- network


def selected(policy: Object, labels: dict[str, str]) -> bool:
    return bool(policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items())


def test_each_pod_has_its_policy(helm: Helm) -> None:
    made = helm.render({"store": {"dev": {"enabled": True}}, "watchNamespaces": ["team-a", NAMESPACE]})
    policies = all_of(made, "NetworkPolicy")
    controller = of(made, "Deployment")["spec"]["template"]["metadata"]["labels"]
    store = of(made, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    document = {
        "apiVersion": "aicsweep.dev/v1alpha1",
        "kind": "Sweep",
        "metadata": {"name": "s", "namespace": "team-a", "uid": "u", "generation": 1},
        "spec": {"models": ["resnet50"]},
    }
    child = jobs.Child(document, sweep_from_object(document), jobs.Defaults(), 1)
    pod = jobs.plan_job(child)["spec"]["template"]["metadata"]["labels"]

    assert [p["metadata"]["name"] for p in policies if selected(p, controller)] == ["aicsweep-controller"]
    assert [p["metadata"]["name"] for p in policies if selected(p, store)] == ["aicsweep-store"]
    theirs = [p for p in policies if selected(p, pod)]
    assert {p["metadata"]["namespace"] for p in theirs} == {"team-a", NAMESPACE}
    for policy in theirs:
        assert policy["spec"]["ingress"] == []
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    (entry,) = of(made, "NetworkPolicy", "aicsweep-store")["spec"]["ingress"]
    assert entry == {"ports": [{"port": "s3", "protocol": "TCP"}]}


def test_where_sweeps_may_be_anywhere_their_namespaces_are_said(helm: Helm) -> None:
    def spaces(given: dict[str, Any]) -> list[str]:
        made = all_of(helm.render(given), "NetworkPolicy")
        return [p["metadata"]["namespace"] for p in made if p["metadata"]["name"] == "aicsweep-pods"]

    assert spaces({}) == [NAMESPACE]
    assert spaces({"networkPolicy": {"podNamespaces": ["a", "b"]}}) == ["a", "b"]
    assert spaces({"networkPolicy": {"enabled": False}}) == []


def test_services_lead_to_their_pods(helm: Helm) -> None:
    made = helm.render(EVERYTHING)
    for service, workload in (
        ("aicsweep-controller-metrics", "Deployment"),
        ("aicsweep-store", "StatefulSet"),
    ):
        template = of(made, workload)["spec"]["template"]
        found = of(made, "Service", service)
        assert found["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        named = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in found["spec"]["ports"]} <= named
    monitor = of(made, "ServiceMonitor")
    metrics = of(made, "Service", "aicsweep-controller-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= metrics["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in metrics["spec"]["ports"]}


# --- the store to try things out


def test_its_key_is_where_its_users_are(helm: Helm) -> None:
    made = helm.render({"store": {"dev": {"enabled": True}}, "watchNamespaces": ["team-a", "team-b"]})
    secrets = all_of(made, "Secret")
    assert {s["metadata"]["namespace"] for s in secrets} == {NAMESPACE, "team-a", "team-b"}
    keys = {json.dumps(s["stringData"], sort_keys=True) for s in secrets}
    assert len(keys) == 1, "one key for all"
    data = secrets[0]["stringData"]
    assert set(data) <= set(jobs.SECRET_KEYS)
    assert data["AWS_ENDPOINT_URL"] == f"http://aicsweep-store.{NAMESPACE}.svc:8333"
    assert len(data["AWS_SECRET_ACCESS_KEY"]) == 40
    assert read_settings(environment(made)).store_secret == secrets[0]["metadata"]["name"]


def test_its_key_may_be_given(helm: Helm) -> None:
    made = helm.render({"store": {"dev": {"enabled": True, "secretName": "mine"}}})
    assert not all_of(made, "Secret")
    assert read_settings(environment(made)).store_secret == "mine"
    (container,) = of(made, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    used = {e["valueFrom"]["secretKeyRef"]["name"] for e in container["env"] if "valueFrom" in e}
    assert used == {"mine"}


def test_there_is_a_test_where_there_is_a_store(helm: Helm) -> None:
    assert not all_of(helm.render(), "Pod")
    made = of(helm.render({"store": {"url": "s3://bench/x", "secretName": "s3"}}), "Pod")
    (container,) = made["spec"]["containers"]
    assert container["args"] == ["doctor", "--store", "s3://bench/x"]
    assert {e["name"] for e in container["env"] if "valueFrom" in e} == set(jobs.SECRET_KEYS)
    assert made["metadata"]["labels"][names.MANAGED_BY] != names.MANAGER


# --- what can't be used

BAD: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 2}, "additional properties 'replicas' not allowed"),
    ({"store": {"ulr": "s3://x"}}, "at '/store': additional properties 'ulr' not allowed"),
    ({"store": {"url": "http://x/y"}}, "at '/store/url'"),
    (
        {"store": {"url": "s3://x", "dev": {"enabled": True}}},
        "store.url: must be empty with store.dev.enabled",
    ),
    ({"store": {"secretName": "s3"}}, "store.secretName: is of no use without store.url"),
    (
        {"store": {"secretName": "s3", "dev": {"enabled": True}}},
        "its Secret is store.dev.secretName",
    ),
    ({"store": {"dev": {"enabled": "yes"}}}, "at '/store/dev/enabled': got string, want boolean"),
    ({"store": {"dev": {"size": "big"}}}, "at '/store/dev/size'"),
    ({"store": {"dev": {"bucket": "A"}}}, "at '/store/dev/bucket'"),
    ({"cluster": "../other"}, "at '/cluster'"),
    ({"watchNamespaces": ["Team A"]}, "at '/watchNamespaces/0'"),
    ({"watchNamespaces": ["a", "a"]}, "items at 0 and 1 are equal"),
    ({"watchNamespaces": "a"}, "at '/watchNamespaces': got string, want array"),
    ({"images": {"build": "aicsweep-build:1"}}, "at '/images/build': got string, want object"),
    ({"images": {"build": {"digest": "sha256:1"}}}, "at '/images/build/digest'"),
    ({"images": {"build": {"repository": "Build Image"}}}, "at '/images/build/repository'"),
    ({"images": {"build": {"tag": "a b"}}}, "at '/images/build/tag'"),
    ({"images": {"pullPolicy": "Sometimes"}}, "at '/images/pullPolicy': value must be one of"),
    ({"pods": {"buildImage": "x"}}, "at '/pods': additional properties 'buildImage' not allowed"),
    ({"pods": {"deviceGruop": 1}}, "additional properties 'deviceGruop' not allowed"),
    ({"pods": {"deviceGroup": -1}}, "at '/pods/deviceGroup': minimum"),
    ({"pods": {"measure": {"gpu": 1}}}, "at '/pods/measure': additional properties 'gpu' not allowed"),
    ({"pods": {"tolerations": [{"key": "a", "operator": "In"}]}}, "at '/pods/tolerations/0/operator'"),
    ({"pods": {"shmSize": "lots"}}, "at '/pods/shmSize'"),
    ({"proxy": {"http": "http://me:secret@proxy:1"}}, "at '/proxy/http'"),
    ({"controller": {"replicas": 0}}, "at '/controller/replicas': minimum"),
    ({"controller": {"settings": {"workres": 1}}}, "additional properties 'workres' not allowed"),
    ({"controller": {"settings": {"workers": 1000}}}, "at '/controller/settings/workers': maximum"),
    ({"controller": {"settings": {"namespaces": "a"}}}, "additional properties 'namespaces' not allowed"),
    ({"controller": {"nodeSelector": {"pool": 1}}}, "at '/controller/nodeSelector/pool'"),
    (
        {"controller": {"resources": {"limits": {"memory": "a lot"}}}},
        "at '/controller/resources/limits/memory'",
    ),
    ({"controller": {"securityContext": {"runAsUser": 0}}}, "'securityContext' not allowed"),
    ({"serviceAccount": {"create": False}}, "serviceAccount.name: is needed"),
    ({"networkPolicy": {"blockedCidrs": ["everything"]}}, "at '/networkPolicy/blockedCidrs/0'"),
    ({"networkPolicy": {"apiServerPorts": []}}, "at '/networkPolicy/apiServerPorts'"),
    ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "at '/metrics/serviceMonitor/interval'"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[message for _, message in BAD])
def test_what_can_not_be_used_is_refused(helm: Helm, given: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmFailed) as caught:
        helm.render(given)
    assert message in str(caught.value)


def test_all_problems_at_once(helm: Helm) -> None:
    with pytest.raises(HelmFailed) as caught:
        helm.render({"store": {"secretName": "a"}, "serviceAccount": {"create": False}})
    assert "store.secretName" in str(caught.value)
    assert "serviceAccount.name" in str(caught.value)
