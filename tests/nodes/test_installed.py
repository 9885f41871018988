"""All of it as a user meets it: the chart by helm, the controller in a pod, S3 in a pod, real numbers from pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runner import tables
from tests.cluster.cluster import until
from tests.cluster.oracle import differences, results, undisturbed
from tests.nodes import release
from tests.nodes.bench import BUILDER, Bench
from tests.nodes.play import SWEEP
from tests.nodes.release import Shell

pytestmark = [pytest.mark.nodes, pytest.mark.cluster, pytest.mark.timeout(1500)]
NAMESPACE = "bench"
# The definition of Sweep was made for the other tests.
TAKE = "--take-ownership"


class Installed(NamedTuple):
    bench: Bench
    shell: Shell
    values: Path

    def pods(self, stage: str) -> list[Any]:
        return self.bench.pods(NAMESPACE, stage)


@pytest.fixture(scope="module")
def installed(bench: Bench) -> Iterator[Installed]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.delenv(name)
        shell = Shell(bench, print)
        file = release.prepare(bench, NAMESPACE, BUILDER)
        release.install(shell, NAMESPACE, file, "install", TAKE)
        yield Installed(bench, shell, file)
        shell.run("helm", "uninstall", release.RELEASE, "-n", NAMESPACE)
        bench.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_the_store_answers(installed):
    assert "Succeeded" in installed.shell.run("helm", "test", release.RELEASE, "-n", NAMESPACE)


def test_the_quickstart(installed):
    seen = release.tour(installed.bench, installed.shell, NAMESPACE)
    assert "Complete" in seen.sweeps[-1]
    assert "AllMeasured" in seen.status
    rows = [line for line in seen.from_the_store.splitlines() if " ok" in line]
    assert len(rows) == 15, seen.from_the_store
    assert seen.through_a_pod == seen.from_the_store
    (controller,) = installed.bench.cluster.get(
        "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=controller"
    )
    assert controller["spec"]["containers"][0]["image"] == installed.bench.images["controller"]
    images = {pod["spec"]["containers"][0]["image"] for pod in installed.pods("export")}
    assert images == {installed.bench.images["build"]}
    for pod in installed.pods("measure"):
        limits = pod["spec"]["containers"][0]["resources"]["limits"]
        assert limits["qualcomm.com/qaic"] == "1"


def test_upgraded_uninstalled_and_installed_again_under_a_sweep(installed):
    """And its controller's and its store's pod killed: the Sweep and what is measured stay, and it ends as if nothing
    had been."""
    bench, shell, _ = installed
    grid = {"cores": [1, 2, 4, 7, 14], "instances": ["fill"], "batchSize": [1, 8]}
    spec = {**SWEEP, "grid": grid, "limits": {"lotMinutes": 10, "parallelism": 1}}
    spec["pods"] = {**SWEEP["pods"], "shmSize": "64Mi"}
    bench.apply(NAMESPACE, "kept", **spec)
    uid = bench.sweep(NAMESPACE, "kept")["metadata"]["uid"]
    _measured(installed, 1)

    controller = "app.kubernetes.io/component=controller"
    bench.cluster.kubectl("delete", "pod", "-l", controller, "-n", NAMESPACE, "--force", "--grace-period=0")
    release.install(
        shell, NAMESPACE, installed.values, "upgrade", "--set", "controller.podAnnotations.now=later"
    )
    bench.cluster.kubectl(
        "delete", "pod", f"{release.STORE}-0", "-n", NAMESPACE, "--force", "--grace-period=0"
    )
    _measured(installed, 2)

    shell.run("helm", "uninstall", release.RELEASE, "-n", NAMESPACE, "--wait")
    assert bench.sweep(NAMESPACE, "kept")["metadata"]["uid"] == uid
    assert not _complete(bench)
    assert bench.cluster.get("pvc", f"data-{release.STORE}-0", "-n", NAMESPACE)["status"]["phase"] == "Bound"
    release.install(shell, NAMESPACE, installed.values, "install", TAKE)
    bench.wait(NAMESPACE, "kept", timeout_s=900)

    with release.reached(bench, shell, NAMESPACE) as keys, pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        home = bench.home(NAMESPACE, "kept", "s3://aicsweep/aicsweep", "default")
        found, _ = tables.read_current(home)
    wanted = {name: value for name, value in spec.items() if name != "pods"}
    differ = differences(results(found), undisturbed(**wanted))
    assert not differ, differ


def _complete(bench: Bench) -> bool:
    conditions = bench.sweep(NAMESPACE, "kept")["status"]["conditions"]
    return any(each["type"] == "Complete" and each["status"] == "True" for each in conditions)


def _measured(installed: Installed, pods: int) -> None:
    """Returns once so many of its pods have begun to measure."""

    def begun() -> int:
        mine = [
            p for p in installed.pods("measure") if p["metadata"]["labels"]["aicsweep.dev/sweep"] == "kept"
        ]
        return sum(pod["status"]["phase"] in ("Running", "Succeeded") for pod in mine)

    until(lambda: begun() >= pods, f"{pods} pods that measure", timeout_s=300)
