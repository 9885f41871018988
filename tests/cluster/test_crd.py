"""A real API server takes the definition and every example, and refuses what is wrong, with words that help."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from k8s import crd
from k8s.status import Cells, DeviceSeconds, SweepStatus
from runner import admission, cells
from runner.errors import BadInput
from runner.sweepfile import MAX_BYTES, load_sweep, sweep_from_object
from tests.cluster.cluster import Cluster, KubectlFailed

pytestmark = pytest.mark.cluster
EXAMPLES = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))


def sweep(name: str = "sample", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "aicsweep.dev/v1alpha1",
        "kind": "Sweep",
        "metadata": {"name": name},
        "spec": {"models": ["resnet50"], **spec},
    }


def grid(**axes: Any) -> dict[str, Any]:
    return sweep(grid=axes)


def without(path: str) -> dict[str, Any]:
    value = sweep()
    *parents, last = path.split(".")
    inner = value
    for parent in parents:
        inner = inner[parent]
    del inner[last]
    return value


def send(cluster: Cluster, value: dict[str, Any]) -> str:
    body = json.dumps(value)
    return cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=body)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_is_accepted(sweeps, namespace, file):
    sweeps.kubectl("apply", "--server-side", "--validate=strict", "-n", namespace, "-f", str(file))
    stored = sweeps.get("sweep", file.stem, "-n", namespace)
    # With the defaults that the API server filled in it still says the same.
    assert sweep_from_object(stored).spec == load_sweep(file).spec


# What -> the object, and what the API server says of it.
REFUSED = {
    "unknown key": (sweep(objective=["best-latency"]), 'unknown field "spec.objective"'),
    "unknown key in a list": (sweep(include=[{"core": [1]}]), r'unknown field "spec.include\[0\].core"'),
    "no spec": (without("spec"), "spec: Required value"),
    "no models": (without("spec.models"), "spec.models: Required value"),
    "empty models": (sweep(models=[]), "spec.models in body should have at least 1 items"),
    "empty model": (sweep(models=[""]), r"spec.models\[0\] in body should be at least 1 chars long"),
    "model twice": (sweep(models=["alexnet", "alexnet"]), r'spec.models\[1\]: Duplicate value: "alexnet"'),
    "too many models": (sweep(models=[f"onnx:{n}" for n in range(257)]), "spec.models: Too many: 257: must have at most 256 items"),
    "long model": (sweep(models=[f"onnx:{'x' * 512}"]), r"spec.models\[0\]: Too long: may not be more than 512 bytes"),
    "text for a list": (sweep(models="resnet50"), 'spec.models in body must be of type array: "string"'),
    "number for a text": (sweep(run=1), 'spec.run in body must be of type string: "integer"'),
    "text for a number": (sweep(measure={"seconds": "5"}), 'spec.measure.seconds in body must be of type number: "string"'),
    "fraction for a count": (sweep(measure={"repeats": 2.5}), 'spec.measure.repeats in body must be of type integer: "number"'),
    "run with a space": (sweep(run="a b"), r"spec.run in body should match"),
    "long run": (sweep(run="r" * 64), "spec.run: Too long"),
    "unknown backend": (sweep(backend="qiac"), r'spec.backend: Unsupported value: "qiac": supported values: "onnxruntime", "qaic", "fake"'),
    "unknown hardware": (sweep(hardware="max"), 'supported values: "std", "pro", "ultra"'),
    "unknown objective": (sweep(objectives=["fastest"]), r'spec.objectives\[0\]: Unsupported value: "fastest"'),
    "no objective": (sweep(objectives=[]), "spec.objectives in body should have at least 1 items"),
    "request without a condition": (sweep(again=[{"id": "a"}]), r"spec.again\[0\].where: Required value"),
    "two requests of one id": (sweep(again=[{"id": "a", "where": "tie"}, {"id": "a", "where": "ci > 2%"}]), r"spec.again\[1\]: Duplicate value"),
    "too many requests": (sweep(again=[{"id": f"r{n}", "where": "tie"} for n in range(33)]), "spec.again: Too many: 33: must have at most 32 items"),
    "long condition": (sweep(again=[{"id": "a", "where": "x" * 1025}]), r"spec.again\[0\].where: Too long"),
    "unknown placement": (sweep(placement="everywhere"), 'supported values: "any", "everyNode", "everyDevice"'),
    "empty axis": (grid(cores=[]), "spec.grid.cores in body should have at least 1 items"),
    "long axis": (grid(batchSize=list(range(1, 66))), "spec.grid.batchSize: Too many: 65: must have at most 64 items"),
    "value twice": (grid(cores=[1, 2, 1]), r"spec.grid.cores\[2\]: Duplicate value: 1"),
    "word twice": (grid(instances=["fill", 1, "fill"]), r'spec.grid.instances\[2\]: Duplicate value: "fill"'),
    "0 cores": (grid(cores=[0]), r"spec.grid.cores\[0\] in body should be greater than or equal to 1"),
    "too many cores": (grid(cores=[1025]), r"spec.grid.cores\[0\] in body should be less than or equal to 1024"),
    "cores in words": (grid(cores=["all"]), r'spec.grid.cores\[0\] in body must be of type integer: "string"'),
    "batch 0": (grid(batchSize=[0]), r"spec.grid.batchSize\[0\] in body should be greater than or equal to 1"),
    "0 instances": (grid(instances=[0]), r"spec.grid.instances\[0\] in body should be greater than or equal to 1"),
    "instances in another word": (grid(instances=["full"]), r"spec.grid.instances\[0\] in body should match '\^fill\$'"),
    "very many instances": (grid(instances=[10**12]), r"spec.grid.instances\[0\] in body should be less than or equal to 1024"),
    "mos 0": (grid(mos=[0]), r"spec.grid.mos\[0\] in body should be greater than or equal to 1"),
    "mos over 16": (grid(mos=["1,17"]), r"spec.grid.mos\[0\] in body should match"),
    "mos in another word": (grid(mos=["auto"]), r"spec.grid.mos\[0\] in body should match"),
    "mos with a blank": (grid(mos=["1, 7"]), r"spec.grid.mos\[0\] in body should match"),
    "small image": (grid(imageSize=[4]), r"spec.grid.imageSize\[0\] in body should be greater than or equal to 8"),
    "old opset": (grid(opset=[7]), r"spec.grid.opset\[0\] in body should be greater than or equal to 9"),
    "unknown precision": (grid(precision=["fp8"]), r'spec.grid.precision\[0\]: Unsupported value: "fp8"'),
    "exclude by fill": (sweep(exclude=[{"instances": ["fill"]}]), r"spec.exclude\[0\]: Invalid value: `fill` in instances names no value"),
    "exclude by lut": (sweep(exclude=[{"mos": [1, "lut"]}]), r"spec.exclude\[0\]: Invalid value: `lut` in mos names no value"),
    "exclude by cores": (sweep(exclude=[{"mos": ["cores"]}]), "`cores` in mos names no value"),
    "exclude by extra lut": (sweep(exclude=[{"extra": ["lut"]}]), "`lut` in extra names no value"),
    "too many excludes": (sweep(exclude=[{"cores": [n]} for n in range(1, 66)]), "spec.exclude: Too many: 65"),
    "no window": (sweep(measure={"seconds": 0}), "spec.measure.seconds: Invalid value: 0: must be greater than or equal to 0.05"),
    "short window": (sweep(measure={"seconds": 0.04}), "spec.measure.seconds in body should be greater than or equal to 0.05"),
    "no repeats": (sweep(measure={"repeats": 0}), "spec.measure.repeats in body should be greater than or equal to 1"),
    "no device time": (sweep(limits={"maxDeviceHours": 0}), "spec.limits.maxDeviceHours in body should be greater than 0"),
    "no rounds": (sweep(limits={"rounds": 0}), "spec.limits.rounds in body should be greater than or equal to 1"),
    "very many cells": (sweep(limits={"maxCells": 1_000_001}), "spec.limits.maxCells in body should be less than or equal to 1"),
    "memory without unit": (sweep(pods={"measure": {"memory": "8"}}), "spec.pods.measure.memory in body should match"),
    "fraction of a CPU": (sweep(pods={"measure": {"cpu": 0.5}}), 'spec.pods.measure.cpu in body must be of type integer: "number"'),
    "toleration with Exists and value": (sweep(pods={"tolerations": [{"operator": "Exists", "value": "x"}]}), "operator Exists takes no value"),
    "toleration without key": (sweep(pods={"tolerations": [{"value": "x"}]}), "operator Equal needs a key"),
    "too many labels": (sweep(pods={"measureNodeSelector": {f"k{n}": "v" for n in range(17)}}), "spec.pods.measureNodeSelector: Too many: 17"),
    "a pod field of Kubernetes": (sweep(pods={"hostNetwork": True}), 'unknown field "spec.pods.hostNetwork"'),
    "long name": (sweep(name="n" * 36), "metadata.name: Invalid value: must have at most 35 characters"),
    "name with a dot": (sweep(name="a.b"), "metadata.name: Invalid value: must be lower-case letters, digits and dashes"),
    "another version": (sweep() | {"apiVersion": "aicsweep.dev/v1"}, 'no matches for kind "Sweep" in version "aicsweep.dev/v1"'),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_the_api_server_and_in_python(sweeps, what):
    value, words = REFUSED[what]
    with pytest.raises(KubectlFailed, match=words):
        send(sweeps, value)
    with pytest.raises(BadInput):
        sweep_from_object(value)


def test_every_mistake_is_told_at_once(sweeps):
    with pytest.raises(KubectlFailed) as caught:
        send(sweeps, sweep(run="a b", backend="qiac", grid={"cores": [1, 0], "instances": ["full"]}))
    for path in ("spec.run", "spec.backend", "spec.grid.cores[1]", "spec.grid.instances[0]"):
        assert f"* {path}:" in str(caught.value)


# What -> the object, and what Python says; the API server takes it, the controller says Valid=False.
ONLY_PYTHON = {
    "unknown model": (sweep(models=["resnet5O"]), r"spec.models\[0\]: unknown model 'resnet5O'; did you mean resnet50"),
    "no reference": (sweep(models=["hf:no-owner"]), "'hf:no-owner' is not a model reference"),
    "one model by two names": (sweep(models=["alexnet", "torchvision:alexnet"]), "is the same model as 'alexnet'"),
    "no condition": (sweep(again=[{"id": "a", "where": "cores = 1"}]), r"spec.again\[0\].where: 'cores = 1' is no condition"),
    "a large spec": (sweep(models=[f"onnx:{n}{'x' * 500}" for n in range(256)]), f"spec: larger than {MAX_BYTES // 1024} KiB"),
}  # fmt: skip


@pytest.mark.parametrize("what", ONLY_PYTHON)
def test_refused_only_in_python(sweeps, what):
    value, words = ONLY_PYTHON[what]
    assert "created" in send(sweeps, value)
    with pytest.raises(BadInput, match=words):
        sweep_from_object(value)


def test_a_sweep_over_its_limit_is_refused_only_in_python(sweeps):
    value = sweep(grid={"cores": [1, 2, 4], "batchSize": [1, 2, 4]}, limits={"maxCells": 8})
    assert "created" in send(sweeps, value)
    card = cells.Target("qaic", frozenset({"hardware"}), ("fp16",), 14, "NSPs")
    (problem,) = admission.over_limits(sweep_from_object(value), card)
    assert "asks for 9 cells, limits.maxCells is 8" in str(problem)


def test_defaults_are_those_of_the_model(sweeps, namespace):
    sweeps.apply(sweep(), namespace=namespace)
    stored = sweeps.get("sweep", "sample", "-n", namespace)
    assert stored["spec"]["measure"] == {"seconds": 20, "repeats": 5, "neighbours": "same-card-idle"}
    assert stored["spec"]["objectives"] == ["best-throughput"]
    assert sweep_from_object(stored).spec == sweep_from_object(sweep()).spec


def test_status_is_apart_and_shown_in_columns(sweeps, namespace):
    sweeps.apply(sweep(), namespace=namespace)
    status = SweepStatus(
        observed_generation=1,
        phase="Measuring",
        round=2,
        cells=Cells(total=18, done=7, failed=1),
        device_seconds=DeviceSeconds(used=5400),
        device_hours=1.5,
        eta="unknown",
        table_url="s3://bench/tables/1",
    )
    patch = json.dumps({"status": status.model_dump(by_alias=True, exclude_defaults=True)})
    sweeps.kubectl(
        *("patch", "sw/sample", "-n", namespace, "--subresource=status", "--type=merge"), "-p", patch
    )
    # Not by way of the spec.
    sweeps.apply(sweep(run="2") | {"status": {"phase": "Complete"}}, namespace=namespace)
    head, row = sweeps.kubectl("get", "sw", "-n", namespace, "-o", "wide").splitlines()
    assert head.split() == [
        "NAME",
        "PHASE",
        "DONE",
        "TOTAL",
        "FAILED",
        "ETA",
        "AGE",
        "ROUND",
        "DEVICE-HOURS",
        "TABLE",
    ]
    shown = row.split()
    assert shown[:6] == ["sample", "Measuring", "7", "18", "1", "unknown"]
    assert shown[7:] == ["2", "1.5", "s3://bench/tables/1"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"phase": "Sleeping"}, "Unsupported value"),
        ({"cells": {"done": -1}}, "greater than or equal to 0"),
        ({"conditions": [{"type": "Valid", "status": "True"}]}, "conditions\\[0\\].reason: Required value"),
        ({"excludedNodes": [f"node-{n}" for n in range(51)]}, "Too many: 51"),
    ],
)
def test_a_wrong_status_is_refused(sweeps, namespace, wrong, words):
    sweeps.apply(sweep(), namespace=namespace)
    with pytest.raises(KubectlFailed, match=words):
        sweeps.kubectl(
            *("patch", "sw/sample", "-n", namespace, "--subresource=status", "--type=merge"),
            *("-p", json.dumps({"status": wrong})),
        )


def test_explain_describes_every_axis(sweeps):
    text = " ".join(explained(sweeps, "sweep.spec.grid").split())
    for axis in crd.sweep_schema()["properties"]["spec"]["properties"]["grid"]["properties"].values():
        assert axis["description"] in text
    assert "onnxruntime" in explained(sweeps, "sweep.spec.backend")


def explained(cluster: Cluster, what: str) -> str:
    """Asked until the server has published the schema: that comes a little after the resource."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return cluster.kubectl("explain", what)
        except KubectlFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_rules_are_within_the_servers_budget_because_of_the_bounds(sweeps):
    """The API server estimates what rules may cost; taken as it is the definition fits, without bounds it does not."""
    definition = crd.custom_resource_definition()
    send(
        sweeps,
        {
            **definition,
            "metadata": {"name": "sweeps.example.com"},
            "spec": {**definition["spec"], "group": "example.com"},
        },
    )
    boundless = without_bounds(definition)
    boundless["metadata"]["name"], boundless["spec"]["group"] = "sweeps.example.com", "example.com"
    with pytest.raises(KubectlFailed, match="estimated rule cost exceeds budget"):
        send(sweeps, boundless)


def without_bounds(value: Any) -> Any:
    if isinstance(value, dict):
        bounds = ("maxItems", "maxLength", "maxProperties")
        return {key: without_bounds(inner) for key, inner in value.items() if key not in bounds}
    return [without_bounds(inner) for inner in value] if isinstance(value, list) else value
