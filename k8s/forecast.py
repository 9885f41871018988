"""`kubectl aicsweep plan FILE`: what a file would run, and on what of this cluster. Nothing is applied.

FILE --(sweepfile, admission)--> plan --(overview)--> summary
nodes, pods at work --(offer)--> devices, how many are free
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from k8s import observe, offer, render
from k8s.access import Access
from k8s.api import Object
from k8s.offer import Offer
from runner import admission, backends, lut, overview
from runner.backends import Capacity
from runner.errors import Infrastructure
from runner.plan import ANYWHERE
from runner.pod_orders import Node, Orders
from runner.progress import duration
from runner.spec import ANY, Sweep
from runner.sweepfile import load_sweep

Forecast = tuple[dict[str, Any], list[Offer], Sweep]


async def made(access: Access, file: Path) -> Forecast:
    """Summary of the plan, nodes and the Sweep. Raises BadInput for the file, Infrastructure where no node can
    be planned for."""
    sweep = load_sweep(file)
    nodes = await access.nodes()
    found = offer.offers(nodes, await access.all_pods(), sweep.spec.pods)
    backend = backends.load(sweep.spec.backend)
    # Where the CPU is the device, it is that of a measure pod, not of this machine.
    cores = Capacity(sweep.spec.pods.measure.cpu, "cores of a measure pod")
    plan = admission.make_plan(
        sweep,
        backend,
        lut.shipped(),
        targets=targets(sweep, nodes),
        capacity=cores if backend.COMPILES_ON == "target" else None,
    )
    admission.require_budget(sweep, plan)
    return overview.of_plan(plan), found, sweep


def targets(sweep: Sweep, nodes: Iterable[Object]) -> Mapping[str, str]:
    """Pure. As the controller tells them to the plan pod, nodes with taints included: it waits for these and
    says that they were not reached. Raises Infrastructure where there are none."""
    if sweep.spec.placement == ANY:
        return ANYWHERE
    pods = sweep.spec.pods
    devices = observe.device_nodes(nodes, pods.device_resource, pods.measure_node_selector)
    if not devices:
        raise Infrastructure(
            f"no ready node offers {sweep.spec.pods.device_resource} for placement {sweep.spec.placement}",
            remedy="`kubectl aicsweep doctor` looks for the cause",
        )
    there = [Node(node=node, devices=count) for node, count in devices.items()]
    return Orders.model_construct(targets=there).targets_of(sweep)


def shown(forecast: Forecast, output: str) -> str:
    """Pure but for the terminal's width."""
    summary, found, sweep = forecast
    if output == "json":
        return orjson.dumps({**summary, "cluster": offer.as_dict(found)}, option=orjson.OPT_INDENT_2).decode()
    text = overview.as_text(summary)
    if not found:
        nodes = (
            f"no node offers {sweep.spec.pods.device_resource}; `kubectl aicsweep doctor` looks for the cause"
        )
        return f"{text}\n\n{nodes}"
    return "\n".join([text, "", render.text(render.table(offer.rows(found))), *_time(summary, found, sweep)])


def _time(summary: Mapping[str, Any], found: Sequence[Offer], sweep: Sweep) -> list[str]:
    """How many measure pods at once, and how long that takes; without queueing, starting and compiling."""
    if not sweep.spec.pods.device_resource:
        return []
    most, free = offer.at_once(found, sweep.spec.limits.parallelism, sweep.spec.placement)
    now = (
        "unknown how many are free: pods of other namespaces can't be read" if free is None else f"{free} now"
    )
    lines = [
        "",
        f"measuring on up to {most} devices at once (limits.parallelism {sweep.spec.limits.parallelism}); {now}",
    ]
    if most and summary["lots"]:
        if sweep.spec.placement == ANY:
            waves = -(-summary["lots"] // most)
            wall = duration(waves * summary["device_s"] / summary["lots"])
        else:
            wall = duration(summary["device_s"] / most)
        lines.append(f"about {wall} on all of them, compiling and waiting not counted")
    return lines
