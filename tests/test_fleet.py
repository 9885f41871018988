import pytest

from runner import merge
from runner.segments import parse_segments
from runner.tables import to_frame
from runner.views import default_view
from tests.test_merge import ok, segment
from tests.test_plan import planned

CARDS = {f"n/{k}": "n" for k in range(5)}


def compared(throughputs, ci95=1.0, targets=CARDS):
    """Rows of one cell by target; a throughput of None is a failure."""
    made = planned(models=["resnet50"], grid={"cores": [1], "instances": [1]}, targets=targets)
    results = [
        ok(
            task.slot,
            throughput or 1.0,
            status="ok" if throughput else "failed",
            throughput_ci95_images_s=ci95,
        )
        for task, throughput in zip(made.tasks(), throughputs, strict=True)
    ]
    table = merge.merge(made, parse_segments([("a", segment(*results))]))
    return {row["target"]: row for row in table.to_pylist()}


def test_each_device_is_compared_with_the_median_of_its_cell():
    rows = compared([100.0, 102.0, 98.0, 90.0, None])
    assert {row["fleet_median_images_s"] for row in rows.values()} == {99.0, None}
    assert rows["n/3"]["fleet_ratio"] == pytest.approx(90 / 99)
    assert rows["n/4"]["fleet_ratio"] is None
    assert [target for target, row in rows.items() if row["warnings"] == "slow-device"] == ["n/3"]


@pytest.mark.parametrize(
    ("slow", "ci95", "warned"),
    [(94.0, 2.0, True), (96.0, 1.0, False), (94.0, 4.0, False), (94.0, None, False)],
)
def test_slow_is_below_95_percent_and_beyond_both_intervals(slow, ci95, warned):
    rows = compared([100.0, 100.0, 100.0, 100.0, slow], ci95)
    assert (rows["n/4"]["warnings"] == "slow-device") is warned


def test_a_fleet_is_shown_with_its_targets():
    made = planned(models=["resnet50"], targets=CARDS)
    shown = default_view(to_frame(merge.merge(made, parse_segments([]))))
    assert set(shown["target"]) == set(CARDS)
    alone = default_view(to_frame(merge.merge(planned(), parse_segments([]))))
    assert "target" not in alone.columns


def test_a_single_target_is_compared_with_nothing():
    (row,) = compared([100.0], targets={"any": ""}).values()
    assert (row["fleet_median_images_s"], row["fleet_ratio"], row["warnings"]) == (None, None, "")
    (row,) = compared([100.0], targets={"n/0": "n"}).values()
    assert (row["fleet_median_images_s"], row["fleet_ratio"], row["warnings"]) == (None, None, "")
