"""A pod that the plugin starts, reads the log of, and takes away again: for a look from inside the cluster.

    pod of a Job (its template) --`reading`|`probing`--> manifest --`run`--> Ended

It is made from the template of the Sweep's own pods: what they were admitted with, its image, its Secret,
and less. Log and not port-forward: a log needs the right to `get pods/log`, while port-forward would need
one that opens every port of every pod of the namespace, a server in the image, and a second protocol here.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k8s import jobs, names
from k8s.access import Access
from k8s.api import Object
from k8s.api_errors import ApiError, Conflict, Invalid, NotFound, Unavailable
from k8s.pod_seen import pod_seen
from k8s.pod_template import HOSTNAME
from k8s.resources import PODS

# Pure reading of Parquet: a million rows take less than 1 GiB to merge.
_CPU, _MEMORY = "1", "2Gi"
_LOOK_S = 0.5
_GRACE_S = 5
# Not its to know, beside the orders of a stage.
_NOT_PASSED_ON = ("HF_TOKEN",)


@dataclass(frozen=True)
class Ended:
    """How it went: `phase` Succeeded or Failed, with the log; else what it still waited for when time was up."""

    phase: str
    log: str
    waited_for: str = ""


def reading(template: Object, sweep: Object, stage: str, args: Sequence[str], limit_s: float) -> Object:
    """Pure. The pod of a Job, without its device, weights and orders, for `aicsweep ARGS`."""
    pod = _bare(template, args, limit_s)
    container = pod["containers"][0]
    amount = {"cpu": _CPU, "memory": _MEMORY}
    container["resources"] = {"requests": dict(amount), "limits": dict(amount)}
    meta = sweep["metadata"]
    owner = {"apiVersion": jobs.API_VERSION, "kind": "Sweep", "name": meta["name"], "uid": meta["uid"]}
    return _named(pod, f"{meta['name']}-{stage}-", meta["namespace"], stage, meta["name"], [owner])


def probing(template: Object, namespace: str, node: str, args: Sequence[str], limit_s: float) -> Object:
    """Pure. A measure pod with one device, on that node, for `aicsweep ARGS`."""
    pod = _bare(template, args, limit_s)
    here = [{"key": HOSTNAME, "operator": "In", "values": [node]}]
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": here}]}
    }
    pod["affinity"] = {"nodeAffinity": required}
    amount = {"cpu": _CPU, "memory": _MEMORY}
    for kind in ("requests", "limits"):
        given = pod["containers"][0]["resources"][kind]
        given.update({name: "1" for name in given if name not in amount}, **amount)
    return _named(pod, "aicsweep-doctor-", namespace, "doctor", "", [])


def _bare(template: Object, args: Sequence[str], limit_s: float) -> Object:
    pod = copy.deepcopy(template)
    container = pod["containers"][0]
    container["args"] = list(args)
    container["env"] = [
        each
        for each in container.get("env", ())
        if each["name"] not in _NOT_PASSED_ON and not each["name"].startswith("AICSWEEP_")
    ]
    # A claim that another node holds would keep the pod waiting.
    for volume in pod.get("volumes", ()):
        if volume.pop("persistentVolumeClaim", None):
            volume["emptyDir"] = {}
    pod["restartPolicy"], pod["terminationGracePeriodSeconds"] = "Never", _GRACE_S
    pod["activeDeadlineSeconds"] = max(1, int(limit_s))
    return pod


def _named(
    pod: Object, prefix: str, namespace: str, stage: str, sweep: str, owners: Sequence[Mapping[str, Any]]
) -> Object:
    labels = {names.MANAGED_BY: names.MANAGER, names.LABEL_STAGE: stage, names.LABEL_SWEEP: sweep}
    meta = {"generateName": prefix, "namespace": namespace, "labels": labels, "ownerReferences": list(owners)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod}


async def run(access: Access, manifest: Object, limit_s: float, say: Callable[[str], None]) -> Ended:
    """Create it, wait for its end at most `limit_s`, read its log. It is deleted whatever happens."""
    pod = await access.api.create(PODS, manifest)
    try:
        return await _followed(access, pod, limit_s, say)
    finally:
        # Also after Ctrl-C: the task is being cancelled, its last request must be made all the same.
        await asyncio.shield(asyncio.ensure_future(_remove(access, pod)))


async def _followed(access: Access, pod: Object, limit_s: float, say: Callable[[str], None]) -> Ended:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    deadline, told = time.monotonic() + limit_s, ""
    while True:
        try:
            pod = await access.api.get(PODS, namespace, name)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_LOOK_S)
            continue
        seen = pod_seen(pod)
        phase = seen.phase or "Pending"
        if phase in ("Succeeded", "Failed"):
            try:
                log = await access.api.log(namespace, name)
            except (NotFound, Invalid):
                # None of its containers began, e.g. because the device plugin refused it.
                log = ""
            return Ended(phase, log, seen.reason)
        if seen.waiting not in ("", told):
            told = seen.waiting
            say(f"{name} waits: {told}")
        if time.monotonic() > deadline:
            return Ended(phase, "", seen.waiting or f"its program to end ({phase})")
        await asyncio.sleep(_LOOK_S)


async def _remove(access: Access, pod: Object) -> None:
    meta = pod["metadata"]
    try:
        await access.api.delete(PODS, meta["namespace"], meta["name"], meta["uid"])
    except (NotFound, Conflict):
        pass
    except ApiError as error:
        raise type(error)(
            f"pod {meta['namespace']}/{meta['name']} is left behind: {error.message}"
        ) from error
