from runner.catalogue import GROUPS
from runner.cells import count_points
from tests.reference import CPU, listed
from tests.samples import sweep


def test_the_look_up_row_is_the_base():
    (entry,) = listed(models=["resnet50"])
    cell = entry.cell
    assert (cell.batch_size, cell.cores, cell.instances, cell.ols, cell.mos, cell.set_size) == (
        13,
        7,
        2,
        2,
        "1",
        3,
    )
    assert entry.base == "lut"
    assert entry.unfit == ""


def test_without_a_row_the_seeds_defaults():
    (entry,) = listed(models=["resnet50"], objectives=["balanced"])
    cell = entry.cell
    assert (cell.batch_size, cell.cores, cell.instances, cell.ols, cell.set_size) == (1, 2, 7, 1, 10)
    assert entry.base == "default"


def test_a_grid_value_wins_over_the_row_field_by_field():
    (entry,) = listed(models=["resnet50"], grid={"cores": [4]})
    assert (entry.cell.cores, entry.cell.instances, entry.cell.batch_size) == (4, 2, 13)
    assert entry.base == "grid"


def test_flags_of_the_row_that_no_longer_fit_are_dropped_and_said():
    (entry,) = listed(models=["resnet-50"], objectives=["best-latency"], grid={"cores": [7]})
    assert entry.cell.mos is None
    assert entry.cell.extra == "-multicast-weights -use-producer-dma=1"
    assert entry.base == "lut-partial"
    (kept,) = listed(models=["resnet-50"], objectives=["best-latency"])
    assert kept.cell.mos == "1,7"
    assert "-sdp-cluster-sizes=7,7" in kept.cell.extra


def test_more_than_the_card_has_is_unfit_with_the_reason():
    (entry,) = listed(models=["resnet50"], grid={"cores": [14]})
    assert "28 cores, there are 14" in entry.unfit


def test_fill_and_words_of_mos():
    found = listed(
        models=["resnet50"], grid={"cores": [4], "instances": ["fill"], "mos": ["none", "cores", 2, 9]}
    )
    assert [e.cell.instances for e in found] == [3] * 4
    assert [e.cell.mos for e in found] == [None, "4", "2", "9"]
    assert "mos 9" in found[3].unfit


def test_parameters_without_meaning_are_no_part_of_a_cell():
    found = listed(
        CPU, models=["resnet50"], grid={"cores": [1], "instances": [1], "ols": [1, 2, 4], "mos": [1, 2]}
    )
    assert len(found) == 1
    assert (found[0].cell.ols, found[0].cell.mos, found[0].cell.hardware) == (None, None, None)


def test_points_are_counted_without_expanding():
    spec = sweep(
        models=["resnets", "alexnet"],
        objectives=["best-throughput", "balanced"],
        grid={"cores": [1, 2, 4], "batchSize": [1, 8]},
        include=[{"setSize": [1, 2]}, {"models": ["vgg11"], "objectives": ["balanced"], "ols": [1, 2, 4]}],
    ).spec
    models = len(GROUPS["resnets"]) + 1
    assert count_points(spec) == models * 2 * 6 + models * 2 * 2 + 3
