"""`kubectl aicsweep logs`: what a Sweep's pods have written, or the ends of the tools' logs of failed cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from k8s import names
from k8s.access import Access
from k8s.api import Object
from k8s.api_errors import Invalid, NotFound, Unavailable
from k8s.pod_seen import pod_seen
from runner.result import FAILED, INFEASIBLE, MISSING


async def of_pods(
    access: Access, name: str, stage: str, tail: int | None, say: Callable[[str], None]
) -> None:
    """Pod after pod in the order of their making, each under a heading."""
    pods = await access.pods(await access.sweep(name))
    wanted = [pod for pod in pods if stage in ("", pod["metadata"]["labels"].get(names.LABEL_STAGE))]
    if not wanted:
        say(
            f"no pod of {name} is left{f' of stage {stage}' if stage else ''}; --failed reads what the store has"
        )
    for pod in sorted(wanted, key=lambda each: str(each["metadata"].get("creationTimestamp", ""))):
        say(heading(pod))
        try:
            said = await access.api.log(access.namespace, pod["metadata"]["name"], tail=tail)
        except (NotFound, Invalid, Unavailable) as error:
            # Not started yet, gone meanwhile, or on a node that doesn't answer: the others have logs all the same.
            said = f"({error.message})"
        say(said.rstrip("\n"))


def heading(pod: Object) -> str:
    """Pure. `==> it-ab12-measure-0-1-x7k: measure on rig-1, Failed (3) <==`."""
    meta, seen = pod["metadata"], pod_seen(pod)
    code = f" ({seen.exit_code})" if seen.exit_code else ""
    stage = meta["labels"].get(names.LABEL_STAGE, "")
    return f"==> {meta['name']}: {stage} on {seen.node or 'no node yet'}, {seen.phase}{code} <=="


def of_cells(table: pa.Table) -> Iterator[str]:
    """Pure. Each slot that was tried and has no number, under a heading: what went wrong, and the tool's last words."""
    status = table["status"].cast(pa.string())
    tried = pc.is_valid(table["started_at"])
    bad = table.filter(pc.and_(pc.is_in(status, pa.array([FAILED, INFEASIBLE, MISSING])), tried))
    columns = [
        "slot",
        "model",
        "batch_size",
        "cores",
        "instances",
        "target",
        "node",
        "status",
        "stage",
        "reason",
        "message",
        "log_tail",
    ]
    told: set[str] = set()
    for row in bad.select(columns).to_pylist():
        # Objectives share slots.
        if row["slot"] in told:
            continue
        told.add(row["slot"])
        at = f" on {row['node']}" if row["node"] else ""
        cell = f"{row['model']} batch {row['batch_size']}, {row['cores']}x{row['instances']}{at}"
        yield f"==> {cell}: {row['status']}, {row['stage']} {row['reason']} <=="
        yield row["message"] or ""
        yield row["log_tail"] or "(the tool has left no log)"
    if not told:
        yield "nothing that was tried failed"
