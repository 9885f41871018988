"""What Prometheus sees of the controller."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from k8s.watch import Cache

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 30)


class Metrics:
    """One registry a controller, so that several fit in one process."""

    def __init__(self) -> None:
        # A second series for each, with the time of its first value: of no use here.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._passes = Counter("aicsweep_passes", "Looks at a Sweep.", ["result"], registry=self._registry)
        self._pass_s = Histogram(
            "aicsweep_pass_seconds", "Length of a look.", buckets=SECONDS, registry=self._registry
        )
        self._wait_s = Histogram(
            "aicsweep_queue_wait_seconds",
            "From a change to the look.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._calls = Counter(
            "aicsweep_api_calls",
            "Requests to the API server.",
            ["verb", "resource", "result"],
            registry=self._registry,
        )
        self._call_s = Histogram(
            "aicsweep_api_call_seconds",
            "Time to their answers.",
            ["verb"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._restarts = Counter(
            "aicsweep_watch_restarts", "Watches that ended.", ["resource", "why"], registry=self._registry
        )
        self._leading = Gauge("aicsweep_leading", "1 while this one acts.", registry=self._registry)

    def on_pass(self, result: str, waited_s: float, seconds: float) -> None:
        self._passes.labels(result).inc()
        self._wait_s.observe(waited_s)
        self._pass_s.observe(seconds)

    def on_call(self, verb: str, resource: str, result: str, seconds: float) -> None:
        self._calls.labels(verb, resource, result).inc()
        self._call_s.labels(verb).observe(seconds)

    def on_restart(self, resource: str, why: str) -> None:
        self._restarts.labels(resource, why).inc()

    def leading(self, now: bool) -> None:
        self._leading.set(now)

    def show(self, depth: Callable[[], int], sweeps: Cache) -> None:
        """Depth and phases are counted when Prometheus asks."""
        gauge = Gauge("aicsweep_queue_depth", "Sweeps that wait for a look.", registry=self._registry)
        gauge.set_function(depth)
        self._registry.register(_Phases(sweeps))

    def as_text(self) -> bytes:
        return generate_latest(self._registry)


class _Phases(Collector):
    def __init__(self, sweeps: Cache) -> None:
        self._sweeps = sweeps

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("aicsweep_sweeps", "Sweeps by phase.", labels=["phase"])
        phases = Count((sweep.get("status") or {}).get("phase") or "New" for sweep in self._sweeps)
        for phase, count in sorted(phases.items()):
            family.add_metric([phase], count)
        yield family
