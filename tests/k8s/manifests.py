"""The Jobs that are made for a Sweep, one of each kind."""

from __future__ import annotations

from typing import Any

from k8s import jobs
from k8s.child import Child, Defaults
from k8s.facts import PlanFacts, Wave
from runner.sweepfile import sweep_from_object
from tests.k8s.world import sweep

FACTS = PlanFacts(plan="d" * 32, lots=100, canary=1, exports=3, binaries=5, device_s=60_000, compile_s=9700,
                  targets={"n1": [0, 50], "n2": [50, 50]})  # fmt: skip
DEFAULTS = Defaults(store="s3://bench/x", secret_name="s3", build_image="build:1", measure_image="measure:1")


def child(**spec: Any) -> Child:
    document = sweep(**spec)
    return Child(document, sweep_from_object(document), DEFAULTS, 1)


def every_job(**spec: Any) -> dict[str, Any]:
    made = child(**spec)
    return {
        "plan": jobs.plan_job(made),
        "export": jobs.export_job(made, FACTS),
        "compile": jobs.compile_job(made, FACTS, Wave(1, 1, 64)),
        "measure": jobs.measure_job(made, FACTS, Wave(1, 1, 64), parallelism=16),
        "pinned": jobs.pinned_job(made, FACTS, 1, "n2", 4),
        "merge": jobs.merge_job(made, FACTS),
    }


def pod(job: dict[str, Any]) -> Any:
    return job["spec"]["template"]["spec"]
