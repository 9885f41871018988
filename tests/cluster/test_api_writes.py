"""Which requests count as writes."""

from __future__ import annotations

from tests.cluster.api_writes import Writes, counted

METRICS = """\
# TYPE apiserver_request_total counter
apiserver_request_total{code="201",resource="pods",subresource="",verb="POST"} 4
apiserver_request_total{code="409",resource="pods",subresource="",verb="POST"} 1
apiserver_request_total{code="201",resource="pods",subresource="binding",verb="POST"} 4
apiserver_request_total{code="200",resource="jobs",subresource="status",verb="PUT"} 1.2e+01
apiserver_request_total{code="200",resource="sweeps",subresource="status",verb="PATCH"} 3
apiserver_request_total{code="200",resource="pods",subresource="",verb="WATCH"} 99
apiserver_request_total{code="201",resource="events",subresource="",verb="POST"} 99
apiserver_request_total{code="200",resource="leases",subresource="",verb="PUT"} 99
"""


def test_writes_to_jobs_pods_and_sweeps_count_the_refused_ones_too() -> None:
    found = counted(METRICS)
    assert found == {
        ("pods", "POST"): 5, ("pods/binding", "POST"): 4, ("jobs/status", "PUT"): 12, ("sweeps/status", "PATCH"): 3,
    }  # fmt: skip
    assert found.on_children() == 21


def test_what_was_written_since_then() -> None:
    before = Writes({("pods", "POST"): 5, ("jobs", "POST"): 1})
    now = Writes({("pods", "POST"): 7, ("jobs", "POST"): 1, ("pods", "DELETE"): 2})
    assert now.since(before) == {("pods", "POST"): 2, ("pods", "DELETE"): 2}
