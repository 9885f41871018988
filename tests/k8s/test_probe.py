"""What doctor makes of nodes and of what probes say."""

from __future__ import annotations

import json

from k8s.offer import Offer
from k8s.probe import Finding, of_log, of_offers, shown
from k8s.short_pod import Ended

QAIC = "qualcomm.com/qaic"


def log(*checks: tuple[str, str, str]) -> str:
    lines = [json.dumps({"name": n, "level": level, "text": t, "remedy": ""}) for n, level, t in checks]
    return "\n".join(["a library's warning", *lines])


def test_what_a_host_may_lack_a_device_pod_may_not() -> None:
    said = log(
        ("shm", "ok", "2 GiB"),
        ("export", "warn", "no torch"),
        ("SDK", "warn", "none"),
        ("device nodes", "bad", "no right to /dev/accel/accel0"),
    )
    found = {finding.name: finding for finding in of_log("n", Ended("Failed", said), qaic=True)}
    assert {name: finding.level for name, finding in found.items()} == {
        "shm": "ok",
        "SDK": "bad",
        "device nodes": "bad",
    }
    assert "pods.deviceGroup" in found["device nodes"].remedy
    without = [finding.name for finding in of_log("n", Ended("Failed", said), qaic=False)]
    assert without == ["shm"]


def test_probes_that_say_nothing() -> None:
    def only(ended: Ended) -> Finding:
        (finding,) = of_log("n", ended, qaic=True)
        return finding

    taken = only(Ended("Pending", "", f"0/3 nodes are available: 1 Insufficient {QAIC}"))
    assert (taken.level, "in use" in taken.remedy) == ("warn", True)
    pulling = only(Ended("Pending", "", "ImagePullBackOff: no such image"))
    assert (pulling.level, "ImagePullBackOff" in pulling.text) == ("bad", True)
    other = only(Ended("Failed", "sh: doctor: not found"))
    assert (other.level, other.text) == ("bad", "sh: doctor: not found")


def test_nodes_by_what_the_api_says() -> None:
    found = [
        Offer("ill", 1, 4, 1),
        Offer("none", 0, 4, 0, "no-device", f"offers no {QAIC}"),
        Offer("off", 4, 4, 4, "cordoned", "cordoned"),
    ]
    assert [(f.node, f.level) for f in of_offers(found, QAIC)] == [
        ("ill", "warn"),
        ("none", "bad"),
        ("off", "warn"),
    ]
    (nothing, *_) = of_offers([], QAIC)
    assert (nothing.node, nothing.level) == ("", "bad")


def test_what_is_well_takes_one_line_a_node() -> None:
    findings = [
        Finding("a", "shm", "ok", "2 GiB"),
        Finding("a", "store", "bad", "away", "look"),
        Finding("a", "memory", "ok", "8 GiB"),
    ]
    assert shown(findings, "text").splitlines() == [
        "a",
        "  BAD  store        away",
        "                    -> look",
        "  ok   shm, memory",
    ]
