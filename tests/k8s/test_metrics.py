"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from k8s.metrics import Metrics
from k8s.watch import Cache


def values(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.as_text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def test_everything_is_counted_where_it_happened() -> None:
    metrics, sweeps = Metrics(), Cache(lambda found: found)
    metrics.show(lambda: 7, sweeps)
    metrics.on_pass("ok", 0.5, 0.1)
    metrics.on_pass("Conflict", 0.25, 0.1)
    metrics.on_call("create", "jobs", "AlreadyExists", 0.01)
    metrics.on_restart("jobs", "Gone")
    metrics.leading(True)
    for number, status in enumerate((None, {}, {"phase": "Measuring"}, {"phase": "Measuring"})):
        sweeps.seen("ADDED", {"metadata": {"name": f"s{number}", "uid": "u"}, "status": status})
    seen = values(metrics)
    assert seen["aicsweep_passes_total", ("ok",)] == 1
    assert seen["aicsweep_passes_total", ("Conflict",)] == 1
    assert seen["aicsweep_queue_wait_seconds_sum", ()] == 0.75
    assert seen["aicsweep_pass_seconds_count", ()] == 2
    assert seen["aicsweep_api_calls_total", ("AlreadyExists", "create", "jobs")] == 1
    assert seen["aicsweep_watch_restarts_total", ("Gone", "jobs")] == 1
    assert seen["aicsweep_queue_depth", ()] == 7
    assert seen["aicsweep_leading", ()] == 1
    assert seen["aicsweep_sweeps", ("Measuring",)] == 2
    assert seen["aicsweep_sweeps", ("New",)] == 2
    metrics.leading(False)
    assert values(metrics)["aicsweep_leading", ()] == 0


def test_two_controllers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.on_pass("ok", 0, 0)
    assert ("aicsweep_passes_total", ("ok",)) not in values(other)
