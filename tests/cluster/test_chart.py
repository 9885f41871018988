"""The chart on a real API server: installed, upgraded, uninstalled and installed again; and its rights, used.

In a cluster of its own: the definition of Sweep is the chart's here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart.helm import CHART, Helm, HelmFailed
from tests.cluster.cluster import Cluster, KubectlFailed, until

pytestmark = pytest.mark.cluster
STORE = {"store": {"dev": {"enabled": True, "storageClassName": "by-hand", "size": "1Gi"}}}
SWEEP = {
    "apiVersion": "aicsweep.dev/v1alpha1",
    "kind": "Sweep",
    "metadata": {"name": "kept"},
    "spec": {"backend": "fake", "models": ["resnet50"], "suspend": True},
}


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
    namespace = fresh.add_restricted_namespace("life")
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
    namespace = fresh.add_restricted_namespace("second")
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
