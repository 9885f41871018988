"""What kills its pod every time fails after bounded deaths, and all else is measured."""

import pytest

from tests.pod_tables import KILLER, numbers, statuses, undisturbed
from tests.pods import Cluster, killed_by


def lot_of(cluster: Cluster, **where) -> int:
    planned = cluster.planned
    return next(
        number
        for number in range(planned.lots)
        for task in planned.lot(number)
        if all(getattr(task.cell, name) == value for name, value in where.items())
    )


@pytest.mark.parametrize("attempts", [3, 9])
def test_a_cell_that_kills_its_pod_fails_after_two_deaths_and_the_others_are_measured(
    tmp_path, cluster, attempts
):
    cluster.make_plan()
    cluster.build()
    cluster.fake = {"faults": [{"stage": "run", "where": KILLER, "verdict": "kill"}]}
    for lot in range(4):
        # The first death is not marked; a Job gives up after three, then the merge says it.
        expected = 3 if lot == lot_of(cluster, **KILLER) else 0
        assert killed_by(cluster, "measure", lot, attempts) == expected
    merged = cluster.merge()
    assert statuses(cluster.table()) == {"ok": 11, "failed run killed": 1}
    assert merged["wanted"] == 0
    assert cluster.make_plan(2).message["lots"] == 0
    calm = [row for row in numbers(undisturbed(tmp_path)) if row["slot"] in good_slots(cluster)]
    assert numbers_without_rank(cluster.table(), good_slots(cluster)) == [without_rank(row) for row in calm]


def good_slots(cluster: Cluster) -> set[str]:
    return {row["slot"] for row in cluster.table().to_pylist() if row["status"] == "ok"}


def without_rank(row):
    return {name: value for name, value in row.items() if name != "rank"}


def numbers_without_rank(table, slots):
    return [without_rank(row) for row in numbers(table) if row["slot"] in slots]


def test_a_binary_whose_compiler_kills_its_pod_fails_and_the_others_are_measured(cluster):
    cluster.make_plan()
    for number in range(2):
        assert cluster.indexed("export", number).end().code == 0
    where = {"cores": 2, "source": "torchvision:resnet50"}
    cluster.fake = {"faults": [{"stage": "compile", "where": where, "verdict": "kill"}]}
    deaths = [killed_by(cluster, "compile", number, 3) for number in range(4)]
    assert sorted(deaths) == [0, 0, 0, 3]
    for lot in range(4):
        assert cluster.measure(lot).code in (0, 1)
    assert cluster.merge()["wanted"] == 0
    assert statuses(cluster.table()) == {"ok": 10, "failed compile killed": 2}


def test_a_model_whose_export_kills_its_pod_fails_and_the_other_is_measured(cluster):
    cluster.make_plan()
    cluster.fake = {
        "faults": [{"stage": "export", "where": {"source": "torchvision:resnet50"}, "verdict": "kill"}]
    }
    assert sorted(killed_by(cluster, "export", number, 3) for number in range(2)) == [0, 3]
    for number in range(4):
        assert cluster.indexed("compile", number).end().code == 0
    codes = {cluster.measure(lot).code for lot in range(4)}
    assert codes == {0, 1}
    assert cluster.merge()["wanted"] == 0
    assert statuses(cluster.table()) == {"ok": 6, "failed export killed": 6}


def test_in_combined_pods_too(cluster):
    cluster.make_plan()
    where = {"cores": 2, "source": "torchvision:resnet50"}
    cluster.fake = {"faults": [{"stage": "compile", "where": where, "verdict": "kill"}]}
    for lot in range(4):
        for _ in range(3):
            if cluster.measure(lot, AICSWEEP_EXECUTION="combined").code != -9:
                break
    cluster.merge()
    assert statuses(cluster.table()) == {"ok": 10, "failed compile killed": 2}
