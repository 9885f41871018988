"""`python -m benchmarks.cluster [CASE ...]`: the controller on the test cluster, against its goals.

    etcd, API server, controller-manager, scheduler, kwok <---> controller, a process of its own
                              ^--- tests/cluster/shim.py ends the pods

Each case has a cluster of its own: a real control plane with simulated nodes. Where a case says so the pods'
programs run; else pods end at once with a message made up for them, so that all that is around them is
measured. Pods that end together are told together by Kubernetes' Job controller: on devices, where they end
one after the other, a pod costs about as much as in `fleet-every-node`. Exits 1 where a goal is missed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.cluster import pace, writes
from benchmarks.cluster.figure import HEADER, Figure
from benchmarks.cluster.stage import NAMESPACE, Stage
from tests.cluster import binaries
from tests.cluster.cluster import running
from tests.cluster.rig import rigged

Case = Callable[[Stage], Iterator[Figure]]
CASES: dict[str, Case] = {
    "pace": pace.few,
    "crowd": pace.many,
    "writes": writes.real,
    "fleet": writes.fleet,
    "fleet-every-node": writes.fleet_every_node,
}


def run(name: str, case: Case) -> bool:
    """Print a case's figures; whether its goals were met."""
    print(f"{name}: {' '.join((case.__doc__ or '').split())}", flush=True)
    load, met = os.getloadavg()[0], True
    with tempfile.TemporaryDirectory(prefix="aicsweep-bench-") as at, running(Path(at)) as cluster:
        cluster.define_sweeps()
        cluster.add_nodes(8)
        with rigged(cluster, Path(at)) as rig:
            rig.add_namespace(NAMESPACE)
            for figure in case(Stage(cluster, rig, Path(at))):
                print(figure.line(), flush=True)
                met = met and figure.met
    print(f"  load of this host: {load:.1f} before, {os.getloadavg()[0]:.1f} at the end", flush=True)
    return met


def main(chosen: list[str]) -> int:
    if unknown := set(chosen) - set(CASES):
        text = f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}"
        print(text, file=sys.stderr)
        return 2
    binaries.ensure(lambda text: print(f"== {text}", file=sys.stderr))
    print(HEADER)
    met = [run(name, CASES[name]) for name in chosen or CASES]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
