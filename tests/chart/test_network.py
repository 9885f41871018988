"""Network policies and Services of the chart."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import yaml

from k8s import jobs
from k8s.child import Child, Defaults
from runner.sweepfile import sweep_from_object
from tests.chart.helm import CHART, NAMESPACE, Helm, Object
from tests.chart.rendered import EVERYTHING, all_of, of


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
    child = Child(document, sweep_from_object(document), Defaults(), 1)
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


def test_where_nodes_credentials_are_no_sweep_gets(helm: Helm) -> None:
    more = ["2001:db8::/32"]
    given = yaml.safe_load((CHART / "values.yaml").read_text())["networkPolicy"]["blockedCidrs"]
    made = helm.render({"networkPolicy": {"blockedCidrs": [*given, *more]}})
    blocks = [
        peer["ipBlock"]
        for rule in of(made, "NetworkPolicy", "aicsweep-pods")["spec"]["egress"]
        for peer in rule.get("to", ())
        if "ipBlock" in peer
    ]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "2000::/3", "fc00::/7"}
    for block in blocks:
        for blocked in block["except"]:
            assert ip_network(blocked).subnet_of(ip_network(block["cidr"]))
    assert sorted(blocked for block in blocks for blocked in block["except"]) == sorted([*given, *more])
