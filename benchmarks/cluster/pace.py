"""How soon the controller does what it may do, and what it costs where there is nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.cluster.figure import Figure, longest, p99
from benchmarks.cluster.stage import NAMESPACE, Stage
from k8s.metrics import SECONDS
from k8s.settings import Settings
from tests.cluster.cluster import until
from tests.cluster.program import Program

# Two models, two lots each: the canary has one of each, and a second wave the rest. 8 cells, 7 Jobs.
TWO_WAVES: dict[str, Any] = {
    "models": ["resnet50", "mobilenet_v2"],
    "grid": {"cores": [1, 2, 7, 14], "instances": ["fill"]},
    "limits": {"lotMinutes": 5, "parallelism": 2},
}
# One lot; 5 Jobs.
ONE_LOT: dict[str, Any] = {"models": ["resnet50"], "grid": {"cores": [1, 2], "instances": ["fill"]}}
RESYNC_S = Settings.model_fields["resync_s"].default


def few(stage: Stage, count: int = 40) -> Iterator[Figure]:
    """Sweeps one after the other, four at a time. All pods end at once."""
    with stage.controller():
        stage.play_none(stage.plan(TWO_WAVES))

        def one(_: int) -> tuple[float, list[float]]:
            began = time.time()
            name = stage.apply(TWO_WAVES)
            first_s = stage.first_job_s(name, began)
            stage.wait(name)
            return first_s, stage.later_jobs_s(name)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(one, range(count)))
    yield longest("first Job after apply", [first for first, _ in found], 2)
    yield p99("each later one after what permits it", [s for _, later in found for s in later], 1)


def many(stage: Stage, count: int = 200) -> Iterator[Figure]:
    """200 Sweeps applied at once; then, with all of them there, a controller that takes over from one that was
    killed, and one that has nothing to do. All pods end at once."""
    with stage.controller() as program:
        stage.play_none(stage.plan(ONE_LOT))

        def one(_: int) -> tuple[str, float]:
            began = time.time()
            return stage.apply(ONE_LOT), began

        with ThreadPoolExecutor(8) as pool:
            begun = list(pool.map(one, range(count)))
            list(pool.map(stage.wait, [name for name, _ in begun]))
        yield _waits(program, f"{count} active Sweeps")
    yield longest("  first Job after apply", [stage.first_job_s(name, began) for name, began in begun])
    yield p99("  each later one", [s for name, _ in begun for s in stage.later_jobs_s(name)])
    yield longest("first action after acquiring the Lease", list(_taking_over(stage)), 5)
    yield _idle(stage)


def _waits(program: Program, of: str) -> Figure:
    """By the controller's own histogram: the upper bound of the last bucket that any wait is in."""
    name = "aicsweep_queue_wait_seconds"
    passes = int(program.count(f"{name}_count"))
    bounds = tuple(map(float, SECONDS))
    within = {bound: program.count(f"{name}_bucket", le=str(bound)) for bound in bounds}
    most = next((bound for bound, number in within.items() if number >= passes), float("inf"))
    cpu_ms = 1000 * program.cpu_s() / passes
    late = f"{passes - within[1.0]:g} over 1 s, {passes - within[2.0]:g} over 2 s"
    text = f"{of}; {late}; CPU {cpu_ms:.1f} ms a pass, API server {_write_ms(program):.0f} ms a write"
    return Figure("wait for a pass, none longer than", most, "s", 2, passes, text)


def _write_ms(program: Program) -> float:
    """How long the server took to answer, on average: whether it was the one to be waited for."""
    name, verbs = "aicsweep_api_call_seconds", ("create", "patch")
    seconds, count = (
        sum(program.count(f"{name}_{of}", verb=verb) for verb in verbs) for of in ("sum", "count")
    )
    return 1000 * seconds / count


def _taking_over(stage: Stage, times: int = 6) -> Iterator[float]:
    """Seconds from acquiring the Lease to the Job of a Sweep that was applied while nobody led. In turn by one
    that begins from nothing and by one that has waited with full caches."""
    for turn in range(times):
        with stage.controller():
            waiting = stage.start() if turn % 2 else None
            if waiting:
                until(waiting.ready)
        name = stage.apply(ONE_LOT)
        program = waiting or stage.start()
        until(program.led_at)
        yield stage.first_job_s(name, program.led_at() or 0.0)
        stage.wait(name)
        program.end(9)


def _idle(stage: Stage, seconds: float = 60.0) -> Figure:
    """All Sweeps have ended. What the regular looks at each of them cost, which are too seldom to be met in so
    short a time, is measured by itself and added."""
    with stage.controller(lease_s="15", lease_name="idle") as program:
        time.sleep(5)
        first, before_s, began = _looks(program), program.cpu_s(), time.monotonic()
        time.sleep(seconds)
        measured = (program.cpu_s() - before_s) / (time.monotonic() - began)
        assert _looks(program) == first
        before_s = program.cpu_s()
        stage.cluster.kubectl("annotate", "sweeps", "--all", "-n", NAMESPACE, "look=here")
        until(lambda: _looks(program) >= 2 * first)
        of_looks = (program.cpu_s() - before_s) / RESYNC_S
    text = f"{measured:.3%} in {seconds:g} s without a look, {of_looks:.3%} for {first} looks in {RESYNC_S} s"
    return Figure("CPU of an idle controller", 100 * (measured + of_looks), "% of a core", 0.2, 1, text)


def _looks(program: Program) -> int:
    return int(program.count("aicsweep_passes_total"))
