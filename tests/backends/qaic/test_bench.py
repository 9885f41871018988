"""Measuring on emulated cards: what a measurement holds, and whose fault each failure is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runner.backends import Device
from runner.backends.qaic import bench, locks, sdk
from runner.errors import AicsweepError, Infeasible, Infrastructure, PointFailed
from tests.backends.qaic.conftest import QUICK, Measure
from tests.backends.qaic.networks import cell
from tests.emulated_sdk import Card, Fault, Sdk, install

SHORT = cell(repeats=1)


def test_a_measurement_is_a_discarded_warm_up_and_a_window_a_repeat(emulated: Sdk, measure: Measure) -> None:
    point = cell(repeats=2)
    measured = measure(point)
    runs = emulated.calls("qaic-runner")
    assert len(runs) == 3
    assert len(measured.windows) == 2
    assert [call.argv[call.argv.index("-d") + 1] for call in runs] == ["0", "0", "0"]
    # A fresh folder each.
    assert len({call.argv[call.argv.index("-write-output-dir") + 1] for call in runs}) == 3
    in_flight = point.instances * point.set_size * point.batch_size
    for window in measured.windows:
        assert window.latencies_s.mean() * window.throughput_images_s == pytest.approx(in_flight, rel=0.1)
    assert measured.check is not None
    assert measured.check.relative_error < 0.01
    assert measured.check.top1_agreement == 1.0
    assert (measured.device, measured.contended, list(measured.warnings)) == (
        "EMUL-0000",
        "",
        ["emulated-sdk"],
    )
    facts = measured.facts
    assert (facts["sku"], facts["nsp_total"], facts["compiler"]) == ("PCIe", "14", "qaic-compile-1.21.12")
    assert facts["temperature_c_before"] == facts["temperature_c_after"] == "38"
    assert "-aic-num-cores=2" in facts["compile_flags"]
    assert float(facts["exec_total_p95_s"]) < np.percentile(measured.windows[0].latencies_s, 99)
    assert "Nsp Total:14" in facts["device_query"]
    assert emulated.alive() == []


@pytest.mark.parametrize("style", ["1.10", "1.19"])
def test_older_sdks_measure_alike(
    tmp_path: Path, style: str, measure: Measure, emulated: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = install(tmp_path / "older", style=style)
    monkeypatch.setattr(emulated, "root", older.root)
    measured = measure(SHORT)
    (_, call) = older.calls("qaic-runner")
    fed = "--aic-batch-json-input" in call.argv
    assert fed == (style == "1.19")
    assert call.argv.count("-i") == (0 if fed else SHORT.set_size)
    # 1.10 shows neither SKU nor temperature: unknown is said, and no obstacle.
    unknown = {"sku-unknown", "temperature-unknown"} if style == "1.10" else set()
    assert set(measured.warnings) == {*unknown, "emulated-sdk"}


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("memory-exhausted", Infeasible, "device-memory"),
        ("device-busy", PointFailed, "device-timeout"),
        ("unknown-error", PointFailed, "tool-error"),
        ("crash", PointFailed, "crashed"),
        ("no-statistics", PointFailed, "no-statistics"),
        ("zero-inferences", PointFailed, "zero-inferences"),
        ("no-latency", PointFailed, "latency-files"),
        ("truncated-latency", PointFailed, "latency-files"),
        ("wrong-latency", PointFailed, "littles-law"),
        ("wrong-output", PointFailed, "wrong-output"),
        ("card-gone", Infrastructure, "device-error"),
    ],
)
def test_a_failed_run_gets_its_verdict(
    emulated: Sdk, measure: Measure, fault: str, kind: type[AicsweepError], reason: str
) -> None:
    emulated.set_faults([Fault("runner", fault)])
    with pytest.raises(kind) as caught:
        measure(SHORT)
    assert type(caught.value) is kind
    assert caught.value.reason == reason  # type: ignore[attr-defined]


def test_a_run_that_failed_on_a_card_that_is_gone_is_the_cards_fault(emulated: Sdk, measure: Measure) -> None:
    # Asked by the fixture, by the bench, by the gate, and after the failure.
    emulated.set_cards([Card(status=["Ready", "Ready", "Ready", "Error"])])
    emulated.set_faults([Fault("runner", "unknown-error")])
    with pytest.raises(Infrastructure, match="not Ready: its status is Error, after a run failed") as caught:
        measure(SHORT)
    assert caught.value.reason == "device-gone"


def test_a_hang_ends_with_all_of_its_processes_and_the_card_is_free_for_the_next(
    emulated: Sdk, measure: Measure
) -> None:
    emulated.set_faults([Fault("runner", "stubborn-hang", times=1)])
    with pytest.raises(PointFailed, match="had not ended after") as caught:
        measure(cell(repeats=1, seconds=1), limits=replace(QUICK, run_margin_s=4.0))
    assert caught.value.reason == "time-limit"
    assert emulated.alive() == []
    assert measure(SHORT).contended == ""


def test_memory_exhausted_beside_somebody_else_is_not_the_points_fault(
    emulated: Sdk, measure: Measure
) -> None:
    # Free for fixture, bench and gate, busy after the warm-up.
    emulated.set_cards([Card(busy_nsps=[0, 0, 0, 5])])
    emulated.set_faults([Fault("runner", "memory-exhausted", after=1)])
    with pytest.raises(Infrastructure) as caught:
        measure(SHORT)
    assert caught.value.reason == "device-memory"


def test_latency_rows_that_stop_at_a_limit_are_said(emulated: Sdk, measure: Measure) -> None:
    emulated.set_faults([Fault("runner", "row-limit")])
    assert list(measure(SHORT).warnings) == ["emulated-sdk", "latency-truncated"]


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (Card(status="Error"), "device-error"),
        (Card(status="Initializing"), "device-error"),
        (Card(busy_nsps=3), "device-busy"),
        (Card(temperature_c=80.0), "device-hot"),
        (Card(sku="PCIe Pro"), "wrong-sku"),
        (Card(nsp_total=12), "wrong-sku"),
    ],
)
def test_an_unfit_card_is_not_measured_on(emulated: Sdk, measure: Measure, card: Card, reason: str) -> None:
    # A card that is not Ready shows no serial: it turns so after the bench was opened.
    if isinstance(card.status, str) and card.status != "Ready":
        card = replace(card, status=["Ready", "Ready", card.status])
    emulated.set_cards([card])
    with pytest.raises(Infrastructure) as caught:
        measure(SHORT)
    assert caught.value.reason == reason
    assert emulated.calls("qaic-runner") == []


def test_an_obstacle_that_passes_is_waited_for(emulated: Sdk, measure: Measure) -> None:
    emulated.set_cards([Card(busy_nsps=[0, 0, 14, 3, 0], temperature_c=[40, 40, 40, 40, 66, 66, 64])])
    measured = measure(SHORT, limits=replace(QUICK, gate=replace(QUICK.gate, free_s=30, cool_s=30)))
    assert measured.gate_s > 0
    assert measured.contended == ""
    assert measured.facts["temperature_c_before"] == "64"


def test_a_stranger_on_the_card_meanwhile_makes_it_contended(emulated: Sdk, measure: Measure) -> None:
    emulated.set_cards([Card(busy_nsps=[0, 0, 0, 2])])
    measured = measure(cell(repeats=1, instances=3))
    assert "2 of 14 NSPs in use" in measured.contended
    assert len(measured.windows) == 1


def test_heat_of_the_run_itself_is_no_contention_and_throttling_heat_is(
    emulated: Sdk, measure: Measure
) -> None:
    emulated.set_cards([Card(temperature_c=[60, 60, 60, 75])])
    assert measure(SHORT).contended == ""
    emulated.set_cards([Card(temperature_c=[60, 60, 60, 95])])
    assert "95 degrees" in measure(SHORT).contended


ULTRA = [Card(sku="PCIe Ultra", serial="U1"), Card(sku="PCIe Ultra", serial="U1", busy_nsps=4)]


@pytest.mark.parametrize(
    ("neighbours", "other_board", "waits"),
    [
        ("any", False, False),
        ("same-card-idle", False, True),
        ("same-card-idle", True, False),
        ("host-idle", True, True),
    ],
)
def test_neighbours_are_idle_as_asked(
    emulated: Sdk, measure: Measure, neighbours: str, other_board: bool, waits: bool
) -> None:
    emulated.set_cards([ULTRA[0], replace(ULTRA[1], serial="U2" if other_board else "U1")])
    point = cell(repeats=1, hardware="ultra", neighbours=neighbours)
    if waits:
        with pytest.raises(Infrastructure, match="QID 1, 4 of 16 NSPs in use") as caught:
            measure(point)
        assert caught.value.reason == "neighbour-busy"
    else:
        assert measure(point).device == "U1:0xe0000000"


def test_too_many_cores_are_the_points_fault(measure: Measure) -> None:
    with pytest.raises(Infeasible, match="16 NSPs, card 0 has 14"):
        measure(cell(instances=8))


def test_a_query_that_hangs_is_the_hosts_fault(emulated: Sdk, measure: Measure) -> None:
    emulated.set_faults([Fault("util", "stubborn-hang", after=2)])
    with pytest.raises(Infrastructure, match="had not answered after 3 s") as caught:
        measure(SHORT, limits=replace(QUICK, query_s=3.0))
    assert caught.value.reason == "device-query"
    assert emulated.alive() == []


def test_another_card_under_the_same_number_is_not_measured_on(emulated: Sdk, tmp_path: Path) -> None:
    emulated.set_cards([Card(serial="A")])
    with pytest.raises(Infrastructure, match="card 0 is not B any more"):
        bench.CardBench(sdk.find(emulated.root), Device("0", "B"), tmp_path, QUICK)


def test_a_host_that_shall_be_idle_waits_for_other_aicsweeps(emulated: Sdk, measure: Measure) -> None:
    with (
        locks.held(locks.HOST, "host", limit_s=1, shared=True),
        pytest.raises(Infrastructure, match="in use by another aicsweep"),
    ):
        measure(cell(repeats=1, neighbours="host-idle"), limits=replace(QUICK, neighbours_s=0.1))


def test_the_next_cell_goes_on_after_a_failure(emulated: Sdk, measure: Measure) -> None:
    emulated.set_faults([Fault("runner", "wrong-output", times=1)])
    with pytest.raises(PointFailed):
        measure(SHORT)
    assert measure(SHORT).check is not None
