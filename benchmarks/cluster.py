"""`python -m benchmarks cluster [CASE ...]`: the controller on the test cluster.

    etcd, API server, controller-manager, scheduler, kwok <--> controller (a process of its own)
                              ^--- tests/cluster/shim.py: ends the pods

Where a case says so, the pods' programs run; else their pods end at once with a message made up for them
(plans are real ones in any case), so that what is measured is all that is around the pods. The naive
reference, one Job a cell, is played by the same hands in the same run. Exits 1 where a goal is missed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cluster_watch import Timeline, Writes, of_children, writes
from k8s import names
from tests.cluster import binaries
from tests.cluster.cluster import Cluster, running, until
from tests.cluster.program import Program
from tests.cluster.rig import Rig, rigged

NAMESPACE = "bench"
PATIENCE_S = 1800.0
# Two models, two lots each: the canary has one of each, and a second wave the rest. 8 cells.
SMALL: dict[str, Any] = {
    "models": ["resnet50", "mobilenet_v2"],
    "grid": {"cores": [1, 2, 7, 14], "instances": ["fill"]},
    "limits": {"lotMinutes": 5, "parallelism": 2},
}
# One lot.
TINY: dict[str, Any] = {"models": ["resnet50"], "grid": {"cores": [1, 2], "instances": ["fill"]}}
# About 50 cells a lot.
FIFTY: dict[str, Any] = {"weights": "random", "measure": {"seconds": 5, "repeats": 1}}
AXES = {"cores": [1, 2, 4, 7], "instances": [1, 2], "ols": [1, 2, 4], "setSize": [1, 2, 3]}


@dataclass(frozen=True)
class Figure:
    """One number. `most`: the goal, where there is one; `n`: of how many observations."""

    what: str
    value: float
    unit: str
    most: float | None = None
    n: int = 1
    spread: str = ""

    @property
    def met(self) -> bool:
        return self.most is None or self.value <= self.most

    def line(self) -> str:
        goal = "" if self.most is None else f"<= {self.most:g}: {'met' if self.met else 'MISSED'}"
        value = f"{self.value:,.0f}" if self.value >= 1000 else f"{self.value:.3g}"
        return f"  {self.what:<47}{value:>9} {self.unit:<11}{self.n:>7}  {goal:<16}  {self.spread}".rstrip()


class Bench:
    """A cluster with all that the cases need. One controller at a time acts on the namespace `bench`."""

    def __init__(self, cluster: Cluster, rig: Rig, folder: Path) -> None:
        self.cluster, self.rig, self.folder = cluster, rig, folder
        self.timeline = Timeline().begin(rig)
        self._started = self._named = 0

    def start(self, **settings: str) -> Program:
        """A controller."""
        self._started += 1
        given = {
            "store": str(self.rig.store(NAMESPACE)),
            "lease_namespace": NAMESPACE,
            "lease_s": "4",
            **settings,
        }
        return Program(self.cluster.kubeconfig, self.folder, f"controller-{self._started}", **given)

    @contextmanager
    def controller(self, **settings: str) -> Iterator[Program]:
        """One that leads."""
        program = self.start(**settings)
        try:
            until(program.led_at)
            yield program
        finally:
            program.popen.kill()
            program.popen.wait()

    def name(self) -> str:
        self._named += 1
        return f"s-{self._named}"

    def apply(self, spec: dict[str, Any]) -> str:
        name = self.name()
        self.rig.apply(NAMESPACE, name, **spec)
        return name

    def wait(self, name: str) -> None:
        self.rig.wait(NAMESPACE, name, timeout_s=PATIENCE_S)

    def sweep(self, name: str) -> dict[str, Any]:
        return self.rig.said(NAMESPACE, name)[-1]

    def first_s(self, name: str, since: float) -> float:
        """Seconds from `since` to its plan Job, waited for."""
        sweep = self.sweep(name)
        until(lambda: self.timeline.of(sweep))
        return min(job.made_at for job in self.timeline.of(sweep).values()) - since

    def plan_message(self, spec: dict[str, Any]) -> dict[str, Any]:
        """What a plan pod says of such a Sweep, after one was planned by a real one."""
        self.make_up({})
        name = self.apply(spec)
        uid = self.sweep(name)["metadata"]["uid"]
        selector = f"{names.LABEL_UID}={uid},{names.LABEL_STAGE}={names.PLAN}"

        def message() -> Any:
            pods = self.rig.do(
                self.rig.api.request(
                    "GET", f"/api/v1/namespaces/{NAMESPACE}/pods", query={"labelSelector": selector}
                )
            )["items"]
            states = [s["state"] for pod in pods for s in pod["status"].get("containerStatuses", ())]
            return next((s["terminated"]["message"] for s in states if "terminated" in s), None)

        until(message, timeout_s=PATIENCE_S)
        found: dict[str, Any] = json.loads(message())
        self.rig.delete(NAMESPACE, name)
        return found

    def make_up(self, plan: dict[str, Any] | None, *, real_plan: bool = False) -> None:
        """From now on pods end at once as if they had planned `plan` and measured all of it well; with {} all
        programs run, with `real_plan` those of plan pods."""
        self.rig.shim.instead.clear()
        if not plan:
            return
        self.rig.shim.instead |= dict.fromkeys((names.EXPORT, names.COMPILE, names.MEASURE), _nothing)
        counts = {"ok": plan["slots"], "unfit": plan["unfit"]}
        merged = {"table": "tables/none", "wanted": 0, "counts": counts, "device_s": {"measuring": 1.0}}
        self.rig.shim.instead[names.MERGE] = lambda pod: json.dumps(merged)
        if not real_plan:
            self.rig.shim.instead[names.PLAN] = lambda pod: json.dumps(plan)


def _nothing(pod: Any) -> str:
    return ""


# -- cases


def pace(bench: Bench, count: int = 40) -> Iterator[Figure]:
    """Sweeps one after the other, two at a time: how soon the controller does what it may do. Pods end at once."""
    with bench.controller():
        bench.make_up(bench.plan_message(SMALL))

        def one(_: int) -> tuple[float, list[float]]:
            began = time.time()
            name = bench.apply(SMALL)
            first_s = bench.first_s(name, began)
            bench.wait(name)
            return first_s, list(bench.timeline.later(bench.sweep(name)))

        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(one, range(count)))
    firsts = [first for first, _ in found]
    later = [seconds for _, some in found for seconds in some]
    yield Figure("first Job after apply, the longest", max(firsts), "s", 2, len(firsts), _spread(firsts))
    p99 = float(np.percentile(later, 99))
    yield Figure("each later one after what permits it, p99", p99, "s", 1, len(later), _spread(later))


def crowd(bench: Bench, count: int = 200) -> Iterator[Figure]:
    """So many Sweeps applied at once and worked on side by side. Then: a controller that begins where another
    one was killed, and one that has nothing to do. Pods end at once."""
    with bench.controller() as program:
        bench.make_up(bench.plan_message(TINY))

        def one(_: int) -> tuple[str, float]:
            began = time.time()
            return bench.apply(TINY), began

        with ThreadPoolExecutor(8) as pool:
            begun = list(pool.map(one, range(count)))
            names_ = [name for name, _ in begun]
            list(pool.map(bench.wait, names_))
        passes = int(program.count("aicsweep_queue_wait_seconds_count"))
        longest = _longest(program)
        firsts = [bench.first_s(name, began) for name, began in begun]
        later = [s for name in names_ for s in bench.timeline.later(bench.sweep(name))]
        yield Figure(f"{count} Sweeps at once: the longest wait for a pass", longest, "s", 2, passes)
        yield Figure("  first Job after apply, the longest", max(firsts), "s", None, count, _spread(firsts))
        yield Figure(
            "  later Jobs, p99", float(np.percentile(later, 99)), "s", None, len(later), _spread(later)
        )
    yield from _taking_over(bench)
    yield from _idle(bench)


def _longest(program: Program) -> float:
    """The bound of the histogram's last bucket that anything is in."""
    name = "aicsweep_queue_wait_seconds"
    everything = program.count(f"{name}_count")
    bounds = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0)
    full = (b for b in bounds if program.count(f"{name}_bucket", le=str(b)) == everything)
    return next(full, float("inf"))


def _taking_over(bench: Bench, times: int = 5) -> Iterator[Figure]:
    """From the Lease to the Job of a Sweep that was applied while nobody led; with all the other Sweeps there."""
    found = []
    for turn in range(times):
        with bench.controller() as before:
            # Odd turns: one that has waited with full caches; else one that starts from nothing.
            waiting = bench.start() if turn % 2 else None
            if waiting:
                until(waiting.ready)
            before.popen.kill()
            before.popen.wait()
        name = bench.apply(TINY)
        program = waiting or bench.start()
        try:
            led_at = until_some(program.led_at)
            found.append(bench.first_s(name, led_at))
            bench.wait(name)
        finally:
            program.popen.kill()
            program.popen.wait()
    yield Figure(
        "first action after acquiring the Lease, the longest", max(found), "s", 5, len(found), _spread(found)
    )


def _idle(bench: Bench, seconds: float = 60.0) -> Iterator[Figure]:
    """With all Sweeps ended; the looks at each of them every half hour, which do not fall into the time that is
    measured, are added."""
    # The Lease at its real length: renewing it is most of what there is to do.
    settings = {"lease_s": "15", "lease_name": "idle"}
    with bench.controller(**settings) as program:
        before = program.cpu_s()
        until(lambda: program.count("aicsweep_passes_total") and not program.count("aicsweep_queue_depth"))
        time.sleep(2)
        passes = program.count("aicsweep_passes_total")
        a_pass_s = (program.cpu_s() - before) / passes
        began, before = time.monotonic(), program.cpu_s()
        time.sleep(seconds)
        share = (program.cpu_s() - before) / (time.monotonic() - began)
        looks = passes * a_pass_s / 1800
    text = f"{share:.3%} measured over {seconds:g} s, {looks:.3%} for {passes:g} looks in 1800 s"
    yield Figure("idle controller", 100 * (share + looks), "% of a core", 0.2, 1, text)


def small_real(bench: Bench) -> Iterator[Figure]:
    """The programs of all pods run: 5,000 cells of five models in lots of 50."""
    spec = {
        **FIFTY,
        "models": ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"],
        "grid": {**AXES, "batchSize": list(range(1, 15))},
        "limits": {"lotMinutes": 12, "maxDeviceHours": 1000},
    }
    bench.make_up({})
    with bench.controller() as program:
        yield from _writes(bench, program, spec, "real pods")
        yield from _naive(bench, 200)


def fleet(bench: Bench) -> Iterator[Figure]:
    """100,000 cells in lots of 50 on 500 simulated nodes with 8 devices each. Plan pods run, others end at once."""
    bench.cluster.add_nodes(500, prefix="fleet")
    spec = {
        **FIFTY,
        "models": ["all"],
        "grid": {**AXES, "batchSize": list(range(1, 28))},
        "limits": {
            "lotMinutes": 12, "parallelism": 250, "maxCells": 1_000_000, "maxDeviceHours": 1_000_000,
        },
    }  # fmt: skip
    with bench.controller() as program:
        message = bench.plan_message(spec)
        bench.make_up(message, real_plan=True)
        yield from _writes(bench, program, spec, "anywhere")
        yield from _size(bench, program)
    every = {
        **FIFTY,
        "models": ["resnet50"],
        "grid": {"cores": [1, 2, 4, 7], "instances": [1, 2], "batchSize": list(range(1, 26))},
        "placement": "everyNode",
        "limits": {
            "lotMinutes": 12, "parallelism": 250, "maxCells": 1_000_000, "maxDeviceHours": 1_000_000,
        },
        "pods": {"measureNodeSelector": {"aicsweep.dev/nodes": "fleet"}},
    }  # fmt: skip
    with bench.controller() as program:
        message = bench.plan_message(every)
        bench.make_up(message, real_plan=True)
        yield from _writes(bench, program, every, "on every node")
        yield from _size(bench, program)


def _size(bench: Bench, program: Program) -> Iterator[Figure]:
    yield Figure("  controller's memory, peak", program.peak_mib(), "MiB", 150)
    states = bench.rig.said(NAMESPACE, f"s-{bench._named}")
    largest = max(len(json.dumps(state.get("status", {}))) for state in states)
    yield Figure("  status, the largest", largest / 1024, "KiB", 16, len(states))


def _writes(bench: Bench, program: Program, spec: dict[str, Any], what: str) -> Iterator[Figure]:
    """Of one Sweep, until it is Complete."""
    time.sleep(2)
    before, own_before, began = writes(bench.rig), _own(program), time.time()
    name = bench.apply(spec)
    bench.wait(name)
    time.sleep(2)
    took_s, made, own = time.time() - began, writes(bench.rig) - before, _own(program) - own_before
    cells = bench.rig.status(NAMESPACE, name)["cells"]
    slots = cells["total"]
    pods = made["pods", "POST"]
    # The shim's mark on each pod whose program it runs: no kubelet writes that.
    marks = sum(played.sweep == name for played in bench.rig.shim.played)
    children = of_children(made) - marks
    jobs = made["jobs", "POST"]
    shape = f"{slots:,} slots, {pods:,} pods, {jobs} Jobs in {took_s:.0f} s"
    yield Figure(f"{what}: writes a pod", children / pods, "", 5.5, pods, shape)
    everything = sum(made.values()) - marks
    yield Figure("  writes a cell, the Sweep's own included", everything / slots, "", 0.25, slots, _top(made))
    yield Figure("  the controller's writes a cell", own / slots, "", 0.01, slots, f"{own:g} in all")


def _own(program: Program) -> float:
    """Writes of the controller; not Events and Leases."""
    pairs = [(verb, of) for verb in ("create", "patch", "delete") for of in ("jobs", "sweeps")]
    return sum(program.count("aicsweep_api_calls_total", verb=verb, resource=of) for verb, of in pairs)


def _top(made: Writes) -> str:
    return ", ".join(f"{verb} {of} {count:,}" for (of, verb), count in made.most_common(7))


def _naive(bench: Bench, count: int) -> Iterator[Figure]:
    """A Job for each cell, all made at once; their pods end at once."""
    bench.rig.shim.instead[names.MEASURE] = _nothing
    before = writes(bench.rig)

    def make(number: int) -> None:
        bench.rig.do(
            bench.rig.api.request("POST", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs", _naive_job(number))
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(count)))
    until(lambda: bench.timeline.ended(lambda job: job.sweep.startswith("naive-")) == count)
    time.sleep(2)
    made = writes(bench.rig) - before
    yield Figure(
        "naive, one Job a cell: writes a cell", of_children(made) / count, "", None, count, _top(made)
    )


def _naive_job(number: int) -> dict[str, Any]:
    labels = {
        names.MANAGED_BY: names.MANAGER,
        names.LABEL_SWEEP: "naive",
        names.LABEL_UID: f"naive-{number}",
        names.LABEL_STAGE: names.MEASURE,
    }
    container = {"name": "aicsweep", "image": "measure", "args": ["pod", "measure"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"naive-{number}", "labels": labels},
        "spec": {
            "template": {
                "metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            }
        },
    }


def _spread(values: list[float]) -> str:
    middle, p90 = np.percentile(values, [50, 90])
    return f"median {middle:.3f}, p90 {p90:.3f}, max {max(values):.3f}"


def until_some(condition: Callable[[], float | None]) -> float:
    until(lambda: condition() is not None)
    found = condition()
    assert found is not None
    return found


CASES: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "pace": pace,
    "crowd": crowd,
    "real": small_real,
    "fleet": fleet,
}


def main(chosen: list[str]) -> int:
    if unknown := set(chosen) - set(CASES):
        print(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    binaries.ensure(lambda text: print(f"== {text}", file=sys.stderr))
    met = True
    for name in chosen or CASES:
        with tempfile.TemporaryDirectory(prefix="aicsweep-bench-") as at, running(Path(at)) as cluster:
            cluster.define_sweeps()
            cluster.add_nodes(8)
            with rigged(cluster, Path(at)) as rig:
                rig.add_namespace(NAMESPACE)
                bench = Bench(cluster, rig, Path(at))
                load = os.getloadavg()[0]
                print(f"{name}: {_about(CASES[name])}", flush=True)
                for figure in CASES[name](bench):
                    print(figure.line(), flush=True)
                    met = met and figure.met
                print(
                    f"  load of this host {load:.1f} before, {os.getloadavg()[0]:.1f} at the end", flush=True
                )
    return 0 if met else 1


def _about(case: Callable[[Bench], Iterator[Figure]]) -> str:
    return " ".join((case.__doc__ or "").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
