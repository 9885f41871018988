"""`kubectl aicsweep doctor`: what stands in the way of measuring, node by node.

    nodes, pods --(offer)--> findings of the API --`probes`--> a pod with one device a node: `aicsweep doctor`

The probe is a measure pod in all but its program, so what it is refused a Sweep's pods would be refused too.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from k8s import names, short_pod
from k8s.access import Access
from k8s.api import Object
from k8s.offer import Offer, Why, offers
from k8s.told import template, told
from runner.spec import Sweep
from runner.sweepfile import sweep_from_object

Level = Literal["ok", "warn", "bad"]
# Probes beside each other: each holds a device for a few seconds.
_AT_ONCE = 8
_REMEDIES: dict[Why, str] = {
    "no-device": "the device plugin doesn't run there or finds no card: its log; on the node lsmod | grep qaic, dmesg",
    "taint": "add it to spec.pods.tolerations of the Sweep",
    "cordoned": "kubectl uncordon",
    "not-ready": "kubectl describe node",
}
# Of no matter to a pod that only measures.
_NOT_HERE = {"export", "weights"}
# What a host may lack, a measure pod of the backend may not.
_NEEDED = {"SDK", "runner", "query", "device nodes", "cards"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at on one node ("" is the cluster)."""

    node: str
    name: str
    level: Level
    text: str
    remedy: str = ""


def of_offers(found: Sequence[Offer], resource: str) -> Iterator[Finding]:
    """Pure. What the API tells of each node."""
    if not any(offer.usable for offer in found):
        remedy = "is the vendor's device plugin running there? Its DaemonSet and `kubectl describe node` tell"
        yield Finding(
            "", "nodes", "bad", f"no node that pods may go to offers {resource or 'anything'}", remedy
        )
    for offer in found:
        if not offer.usable:
            level: Level = "bad" if offer.why == "no-device" else "warn"
            yield Finding(offer.node, "node", level, offer.trouble, _REMEDIES[offer.why])
            continue
        if offer.installed > offer.devices:
            text = f"{offer.devices} of {offer.installed} {resource}: the others are unhealthy"
            yield Finding(
                offer.node, "resource", "warn", text, "the device plugin's log on that node says why"
            )
        elif resource:
            free = "unknown how many are free" if offer.free is None else f"{offer.free} free"
            yield Finding(offer.node, "resource", "ok", f"{offer.devices} {resource}, {free}")


async def probes(
    access: Access,
    sweep: Object | None,
    jobs: Sequence[Object],
    usable: Sequence[Offer],
    *,
    image: str,
    store: str,
    limit_s: float,
    say: Callable[[str], None],
) -> list[Finding]:
    """One probe pod on each of the nodes, several beside each other, as the `jobs` have theirs. Raises
    Infrastructure, ApiError."""
    asked = sweep or example(access.namespace)
    pod = template(asked, jobs, names.MEASURE, image, store)
    qaic = asked["spec"].get("backend") == "qaic"
    args = ["doctor", "-o", "json", *(["--store", store] if store else [])]
    turn = asyncio.Semaphore(_AT_ONCE)

    async def probe(offer: Offer) -> list[Finding]:
        async with turn:
            manifest = short_pod.probing(pod, access.namespace, offer.node, args, limit_s)
            ended = await short_pod.run(access, manifest, limit_s, say)
        return list(of_log(offer.node, ended, qaic=qaic))

    found = await asyncio.gather(*(probe(offer) for offer in usable), return_exceptions=True)
    # All have taken their pods away by now.
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [finding for some in found if not isinstance(some, BaseException) for finding in some]


def example(namespace: str) -> Object:
    """Pure. A Sweep with nothing but defaults, for cards."""
    meta = {"name": "doctor", "namespace": namespace, "uid": "", "generation": 1}
    spec = {"backend": "qaic", "models": ["resnet50"]}
    return {"apiVersion": "aicsweep.dev/v1alpha1", "kind": "Sweep", "metadata": meta, "spec": spec}


def model_of(sweep: Object | None, namespace: str) -> Sweep:
    """Pure. Raises BadInput where the Sweep is not valid."""
    return sweep_from_object(sweep or example(namespace))


def of_log(node: str, ended: short_pod.Ended, *, qaic: bool) -> Iterator[Finding]:
    """Pure. What the probe on a node said, or why it said nothing."""
    if ended.phase not in ("Succeeded", "Failed"):
        # The scheduler's word for devices that others have.
        taken = "Insufficient" in ended.waited_for
        remedy = (
            "its devices are in use: try again later, or --timeout"
            if taken
            else "--timeout gives it more time"
        )
        text = f"did not run in time; it waited for: {ended.waited_for}"
        yield Finding(node, "probe", "warn" if taken else "bad", text, remedy)
        return
    said = [check for line in ended.log.splitlines() if (check := _check(line))]
    if not said:
        text = ended.log.strip()[-500:] or ended.waited_for or "it said nothing"
        remedy = "is it an image of aicsweep of this version? --image names another"
        yield Finding(node, "probe", "bad", text, remedy)
    for check in said:
        name, level, remedy = check["name"], check["level"], check.get("remedy", "")
        if name in _NOT_HERE or (not qaic and (name in _NEEDED or name.startswith("card"))):
            continue
        if level == "warn" and name in _NEEDED:
            level = "bad"
        if name == "device nodes" and "no right" in check["text"]:
            remedy = f"the Sweep's pods.deviceGroup must be the number of the node's group: {remedy}"
        yield Finding(node, name, level, check["text"], remedy)


def _check(line: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and {"name", "level", "text"} <= found.keys() else None


def as_dict(found: Sequence[Finding]) -> list[dict[str, str]]:
    return [asdict(finding) for finding in found]


async def findings(
    access: Access, name: str | None, store: str, image: str, limit_s: float, say: Callable[[str], None]
) -> list[Finding]:
    """Of all nodes. Raises BadInput, Infrastructure."""
    sweep = await access.sweep(name) if name else None
    wanted = model_of(sweep, access.namespace).spec.pods
    found = offers(await access.nodes(), await access.all_pods(), wanted)
    usable = [each for each in found if each.usable]
    listed = list(of_offers(found, wanted.device_resource))
    if usable:
        jobs = await access.jobs(sweep)
        url = store or _store_of(sweep, jobs)
        listed += await probes(access, sweep, jobs, usable, image=image, store=url, limit_s=limit_s, say=say)
    return sorted(listed, key=lambda finding: finding.node)


def _store_of(sweep: Object | None, jobs: Sequence[Object]) -> str:
    """What the Sweep says, or its pods are told; "" where neither is known."""
    if sweep is None:
        return ""
    url = str((sweep["spec"].get("results") or {}).get("url", ""))
    return url or told(jobs)[0]


def shown(found: Sequence[Finding], output: str) -> str:
    """Pure. Node after node what is broken or limits and what to do, as `aicsweep doctor` says it; what is well
    in one line."""
    if output == "json":
        return orjson.dumps(as_dict(found), option=orjson.OPT_INDENT_2).decode()
    lines = []
    for node, group in itertools.groupby(found, key=lambda finding: finding.node):
        lines.append(f"{node or 'cluster'}")
        well = []
        for finding in group:
            if finding.level == "ok":
                well.append(finding)
                continue
            mark = "BAD" if finding.level == "bad" else finding.level
            lines.append(f"  {mark:<4} {finding.name:<12} {finding.text}")
            lines += [f"{'':<19} -> {finding.remedy}"] if finding.remedy else []
        named = {finding.name: finding.text for finding in well}
        lines += [f"  ok   {', '.join(named)}"] if named else []
    return "\n".join(lines)
