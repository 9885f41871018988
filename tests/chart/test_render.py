"""What the chart makes of values: parsed objects, by their meaning."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import yaml

from k8s import generate, names, serve, values
from k8s.pod_template import SECRET_KEYS, USER
from k8s.settings import Settings, read_settings
from runner import __version__
from runner.pod_settings import PodResources, Pods
from tests.chart.helm import CHART, NAMESPACE, Helm, Object
from tests.chart.rendered import CASES, DIGEST, EVERYTHING, all_of, environment, of, pod_specs


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
        assert spec["securityContext"]["runAsUser"] == USER
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


# --- the store to try things out


def test_its_key_is_where_its_users_are(helm: Helm) -> None:
    made = helm.render({"store": {"dev": {"enabled": True}}, "watchNamespaces": ["team-a", "team-b"]})
    secrets = all_of(made, "Secret")
    assert {s["metadata"]["namespace"] for s in secrets} == {NAMESPACE, "team-a", "team-b"}
    keys = {json.dumps(s["stringData"], sort_keys=True) for s in secrets}
    assert len(keys) == 1, "one key for all"
    data = secrets[0]["stringData"]
    assert set(data) <= set(SECRET_KEYS)
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
    assert container["args"] == ["doctor", "--only", "store", "--store", "s3://bench/x"]
    assert {e["name"] for e in container["env"] if "valueFrom" in e} == set(SECRET_KEYS)
    assert made["metadata"]["labels"][names.MANAGED_BY] != names.MANAGER
    elsewhere = helm.render({"store": {"url": "s3://bench/x"}, "watchNamespaces": ["team-a"]})
    assert of(elsewhere, "Pod")["metadata"]["namespace"] == "team-a"
