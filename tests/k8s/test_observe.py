"""Jobs and pods of a Sweep, sorted: what has ended, why nothing goes on, which nodes fail their pods."""

from __future__ import annotations

from datetime import timedelta

import pytest

from k8s import names
from k8s.observe import device_nodes, indexes, observe, pods_wanted
from tests.k8s.seen import failed, job, pod
from tests.k8s.world import START as NOW
from tests.k8s.world import node


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("0", 1), ("0-4", 5), ("0,2-3,7", 4), ("1,3,5", 3), ("0-99,101", 101)]
)
def test_indexes(text, count):
    assert indexes(text) == count


def test_a_job_is_sorted_into_what_decisions_need():
    done = [
        {
            "type": "Failed",
            "status": "True",
            "reason": "FailedIndexes",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
    seen = observe([job(completedIndexes="0-5", failedIndexes="6,8", conditions=done)]).jobs["j"]
    assert (seen.stage, seen.wave, seen.round, seen.completions) == ("measure", 3, 2, 9)
    assert (seen.succeeded, seen.failed, seen.ended, seen.finished, seen.reason) == (
        6,
        2,
        8,
        "Failed",
        "FailedIndexes",
    )
    assert seen.finished_at is not None


def test_labels_written_by_hand_do_not_stop_a_pass():
    odd = job()
    odd["metadata"]["labels"][names.LABEL_WAVE] = "x"
    del odd["metadata"]["labels"][names.LABEL_ROUND]
    odd["metadata"]["annotations"] = {names.ANNOTATION_TARGETS: "n1, n2"}
    seen = observe([odd]).jobs["j"]
    assert (seen.wave, seen.round, seen.targets) == (0, 1, ())
    odd["metadata"]["annotations"] = {names.ANNOTATION_TARGETS: "7"}
    assert observe([odd]).jobs["j"].targets == ()


def test_pods_are_read_only_where_a_decision_needs_them():
    ended = [{"type": "Complete", "status": "True"}]
    listed = [
        job("merge-done", stage=names.MERGE, conditions=ended),
        job("measure-done", conditions=ended),
        job("busy", active=4, ready=4),
        job("starting", active=4, ready=3),
        job("failing", active=4, ready=4, failed=1),
        job("leaving", terminating=2),
    ]
    assert pods_wanted(listed) == ["merge-done", "starting", "failing", "leaving"]


REFUSED_BY_THE_STORE = failed(3, '{"error": "the store refuses the key"}')


def test_why_a_job_whose_pods_fail_does_not_go_on():
    """Only while nothing of it runs: one bad pod of many holds up nothing."""
    assert (
        observe([job(active=0)], [REFUSED_BY_THE_STORE]).waiting(NOW)
        == "measure is tried again: the store refuses the key"
    )
    assert observe([job(active=1, ready=1)], [REFUSED_BY_THE_STORE]).waiting(NOW) == ""


def test_why_a_job_failed_is_what_its_last_failed_pod_said_or_how_it_ended():
    terminated = {"exitCode": 137, "reason": "OOMKilled"}
    killed = pod("Failed", containerStatuses=[{"state": {"terminated": terminated}}])
    assert observe([job()], [failed(3, '{"error": "no card"}'), killed]).jobs["j"].error() == "OOMKilled"
    assert observe([job()], [killed, failed(3, '{"error": "no card"}')]).jobs["j"].error() == "no card"


def test_a_pod_that_its_node_refused_is_why_nothing_goes_on():
    refused = pod("Failed", reason="UnexpectedAdmissionError", message="no healthy devices present")
    assert "no healthy devices" in observe([job(active=0)], [refused]).waiting(NOW)


def test_strikes_are_of_this_round_and_the_one_before():
    seen = observe([job()], [failed(3), failed(3), pod("Succeeded", node="n2")])
    assert seen.strikes(1, 2, NOW) == seen.strikes(1, 3, NOW) == {"n1": 2, "n2": 0}
    assert seen.strikes(1, 1, NOW) == seen.strikes(1, 4, NOW) == {}


def test_strikes_are_of_the_spec_as_it_is_now():
    """An edit may mend what failed them, such as a wrong device group."""
    assert observe([job()], [failed(3), failed(3)]).strikes(2, 2, NOW) == {}


def test_only_the_stage_that_needs_a_device_says_whether_a_node_is_well():
    built = job("c", stage=names.COMPILE)
    seen = observe([built], [{**failed(3), "metadata": {"labels": {"batch.kubernetes.io/job-name": "c"}}}])
    assert seen.jobs["c"].pods
    assert seen.strikes(1, 2, NOW) == {}


def test_the_only_node_that_was_tried_is_struck_too():
    """All tries of a wave of one lot may land on one sick node of many."""
    assert observe([job()], [failed(3), failed(3), failed(3)]).strikes(1, 2, NOW) == {"n1": 3}


def test_a_job_whose_pods_are_refused_is_named():
    """A quota of the namespace counts what pods ask for; the Job's status says nothing of it."""
    made = {**job()["metadata"], "creationTimestamp": NOW.isoformat()}

    def waiting(seconds, **status):
        return observe([{**job(**status), "metadata": made}]).waiting(NOW + timedelta(seconds=seconds))

    assert "no pod of Job j could be made" in waiting(30)
    assert waiting(10) == waiting(30, active=1) == waiting(30, terminating=1) == ""
    assert waiting(30, completedIndexes="0") == ""
    # In back-off, after somebody deleted the pod that failed.
    assert waiting(30, failed=1) == ""


def test_a_job_that_wants_no_pod_lacks_none():
    idle = job(spec={"completionMode": "Indexed", "completions": 9, "parallelism": 0})
    idle["metadata"]["creationTimestamp"] = NOW.isoformat()
    assert observe([idle]).waiting(NOW + timedelta(minutes=5)) == ""


SUSPENDED = "Job held is suspended, by a queue until there is room, or by hand"


def test_a_job_that_is_suspended_is_waited_for():
    held = job("held", spec={"suspend": True})
    assert observe([held]).waiting(NOW) == SUSPENDED
    assert observe([held, job(active=0)]).waiting(NOW) == SUSPENDED
    held["metadata"]["deletionTimestamp"] = NOW.isoformat()
    assert observe([held]).waiting(NOW) == ""


def test_a_suspended_job_hides_no_other_reason():
    held = job("held", spec={"suspend": True})
    assert "the store refuses the key" in observe([held, job(active=0)], [REFUSED_BY_THE_STORE]).waiting(NOW)
    assert observe([held, job(active=2, ready=2)]).waiting(NOW) == "", "something is measured"
    refused = job()
    refused["metadata"]["creationTimestamp"] = NOW.isoformat()
    assert "no pod of Job j" in observe([held, refused]).waiting(NOW + timedelta(minutes=5))


def test_what_failed_before_a_job_was_suspended_is_not_why_it_waits():
    before = failed(3, '{"error": "long ago"}')
    assert "is suspended" in observe([job(spec={"suspend": True})], [before]).waiting(NOW)


def test_nodes_that_offer_devices():
    nodes = [node("b", 4, zone="a"), node("a", 2, zone="a"), node("c", 2, zone="b"), node("none", 0)]
    nodes += [{**node("cordoned", 2, zone="a"), "spec": {"unschedulable": True}}]
    down = node("down", 2, zone="a")
    down["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    assert device_nodes([*nodes, down], "qualcomm.com/qaic", {"zone": "a"}) == {"a": 2, "b": 4}
