"""Where the server has what the controller works with, and what it may do there."""

from __future__ import annotations

from k8s.resources import CALLS, JOBS, NODES, PODS, RESOURCES, SWEEPS


def test_where_the_server_has_objects() -> None:
    assert PODS.path("a") == "/api/v1/namespaces/a/pods"
    assert JOBS.path("") == "/apis/batch/v1/jobs"
    assert NODES.path("a", "n") == "/api/v1/nodes/n"
    assert SWEEPS.path("a", "s", "status") == "/apis/aicsweep.dev/v1alpha1/namespaces/a/sweeps/s/status"
    # A name from outside stays one part of the path.
    assert JOBS.path("a", "../../b") == "/apis/batch/v1/namespaces/a/jobs/..%2F..%2Fb"


def test_rights_are_few() -> None:
    """Nothing of Secrets; pods and nodes are only read; of a Sweep only the status is written."""
    assert len(CALLS) == len(set(CALLS))
    assert {call.resource for call in CALLS} == set(RESOURCES)
    assert {call.verb for call in CALLS if call.resource in (PODS, NODES)} == {"list"}
    writes = {(call.verb, call.subresource) for call in CALLS if call.resource is SWEEPS} - {
        ("list", ""),
        ("watch", ""),
    }
    assert writes == {("patch", "status")}
