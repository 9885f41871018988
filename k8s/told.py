"""What a Sweep's pods are told, read back from its Jobs: store, prefix, image, and the pod itself. Pure.

    Sweep, Jobs --`place_of`--> Place (where its results lie)
                --`template`--> a pod like those of the Sweep, for `short_pod`

The controller alone knows the installation's defaults; whoever may list Jobs finds them in what it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from k8s import jobs as manifests
from k8s import names, picture
from k8s.child import Child, Defaults
from k8s.facts import PlanFacts, Wave
from runner.errors import Infrastructure
from runner.spec import SweepSpec
from runner.sweepfile import sweep_from_object

Object = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where the results of a Sweep's present run lie; `digest` is the plan to merge, "" the published table."""

    store: str
    prefix: str
    digest: str

    @property
    def url(self) -> str:
        return f"{self.store}/{self.prefix}"


def place_of(sweep: Object, jobs: Sequence[Object]) -> Place:
    """Known from what its pods are told, else from the table's URL. Raises Infrastructure where nothing
    of the Sweep as it is was planned yet."""
    store, prefix = told(jobs)
    table = (sweep.get("status") or {}).get("tableUrl", "")
    if not store and table:
        # STORE/sweeps/CLUSTER/NAMESPACE/NAME/RUN/tables/DIGEST
        store, *parts = table.rsplit("/", 7)
        prefix = "/".join(parts[:5])
    digest = _digest(sweep)
    if not store or digest is None:
        status = sweep.get("status") or {}
        phase = status.get("phase", "not looked at by a controller yet")
        why = status.get("waiting") or status.get("message") or "`kubectl aicsweep status` says more"
        raise Infrastructure(f"nothing is planned yet (phase: {phase})", remedy=why, reason="not-planned")
    # Jobs and URL may be those of the run before.
    run = sweep["spec"].get("run", SweepSpec.model_fields["run"].default)
    return Place(store, f"{prefix.rpartition('/')[0]}/{run}", digest)


def told(jobs: Sequence[Object]) -> tuple[str, str]:
    """Store and prefix as the youngest Job's pods know them."""
    for job in _youngest_first(jobs):
        told = {each["name"]: each.get("value", "") for each in _pod_of(job)["containers"][0].get("env", ())}
        if told.get("AICSWEEP_STORE") and told.get("AICSWEEP_PREFIX"):
            return told["AICSWEEP_STORE"], told["AICSWEEP_PREFIX"]
    return "", ""


def _digest(sweep: Object) -> str | None:
    """The plan to merge on the spot, "" where its table is published, None where there is neither."""
    status = sweep.get("status") or {}
    if picture.is_merged(sweep) and status.get("tableUrl"):
        return ""
    return status.get("planDigest") if picture.is_current(sweep) else None


def _youngest_first(jobs: Sequence[Object]) -> list[Object]:
    return sorted(jobs, key=lambda job: str(job["metadata"].get("creationTimestamp", "")), reverse=True)


def _pod_of(job: Object) -> Object:
    spec: Object = job["spec"]["template"]["spec"]
    return spec


def template(sweep: Object, jobs: Sequence[Object], stage: str, image: str = "", store: str = "") -> Object:
    """The pod spec of a Sweep's stage: of its youngest Job, else as the controller would make it.

    Raises Infrastructure where neither a Job, nor the Sweep, nor `image` says which image that is.
    """
    builds = stage != names.MEASURE
    for job in _youngest_first(jobs):
        found = job["metadata"].get("labels", {}).get(names.LABEL_STAGE)
        if (found != names.MEASURE) == builds:
            return _with_image(_pod_of(job), image)
    model = sweep_from_object(sweep)
    image = image or (model.spec.pods.build_image if builds else model.spec.pods.measure_image)
    if not image:
        remedy = "name one with --image; those of the installation are in the controller's Deployment"
        raise Infrastructure("no Job is left that says which image to use", remedy=remedy)
    defaults = Defaults(store=store, build_image=image, measure_image=image)
    child = Child(sweep, model, defaults, round=1)
    facts = PlanFacts(plan="0" * 32, lots=1)
    if builds:
        return _pod_of(manifests.merge_job(child, facts))
    return _pod_of(manifests.measure_job(child, facts, Wave(0, 0, 1), parallelism=1))


def _with_image(pod: Object, image: str) -> Object:
    if not image:
        return pod
    first, *others = pod["containers"]
    return {**pod, "containers": [{**first, "image": image}, *others]}
