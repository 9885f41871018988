import random

from hypothesis import given, settings
from hypothesis import strategies as st

from runner import lut
from runner.cells import Entry, Target, count_points, expand, models_of
from tests.samples import sweep

CARD = Target("qaic", frozenset({"hardware", "ols", "mos", "extra", "neighbours"}), ("fp16",), 14, "NSPs")
CPU = Target("onnxruntime", frozenset(), ("fp32",), 2, "physical cores")


def entries(target: Target = CARD, unused: set[str] | None = None, **spec) -> list[Entry]:
    wanted = sweep(**spec)
    chunks = expand(wanted.spec, models_of(wanted.spec), lut.shipped(), target, unused)
    return [entry for _, chunk in chunks for entry in chunk]


def test_the_look_up_row_is_the_base():
    (entry,) = entries(models=["resnet50"])
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
    (entry,) = entries(models=["resnet50"], objectives=["balanced"])
    cell = entry.cell
    assert (cell.batch_size, cell.cores, cell.instances, cell.ols, cell.set_size) == (1, 2, 7, 1, 10)
    assert entry.base == "default"


def test_a_grid_value_wins_over_the_row_field_by_field():
    (entry,) = entries(models=["resnet50"], grid={"cores": [4]})
    assert (entry.cell.cores, entry.cell.instances, entry.cell.batch_size) == (4, 2, 13)
    assert entry.base == "grid"


def test_flags_of_the_row_that_no_longer_fit_are_dropped_and_said():
    (entry,) = entries(models=["resnet-50"], objectives=["best-latency"], grid={"cores": [7]})
    assert entry.cell.mos is None
    assert entry.cell.extra == "-multicast-weights -use-producer-dma=1"
    assert entry.base == "lut-partial"
    (kept,) = entries(models=["resnet-50"], objectives=["best-latency"])
    assert kept.cell.mos == "1,7"
    assert "-sdp-cluster-sizes=7,7" in kept.cell.extra


def test_more_than_the_card_has_is_unfit_with_the_reason():
    (entry,) = entries(models=["resnet50"], grid={"cores": [14]})
    assert "28 cores, there are 14" in entry.unfit


def test_fill_and_words_of_mos():
    found = entries(
        models=["resnet50"], grid={"cores": [4], "instances": ["fill"], "mos": ["none", "cores", 2, 9]}
    )
    assert [e.cell.instances for e in found] == [3] * 4
    assert [e.cell.mos for e in found] == [None, "4", "2", "9"]
    assert "mos 9" in found[3].unfit


def test_parameters_without_meaning_are_no_part_of_a_cell():
    found = entries(
        CPU, models=["resnet50"], grid={"cores": [1], "instances": [1], "ols": [1, 2, 4], "mos": [1, 2]}
    )
    assert len(found) == 1
    assert (found[0].cell.ols, found[0].cell.mos, found[0].cell.hardware) == (None, None, None)


def test_two_objectives_with_the_same_parameters_are_one_cell():
    grid = {
        "cores": [2],
        "instances": [7],
        "batchSize": [1],
        "setSize": [1],
        "ols": [1],
        "mos": ["none"],
        "extra": [""],
    }
    found = entries(models=["resnet50"], objectives=["best-throughput", "best-latency"], grid=grid)
    assert len({e.id for e in found}) == 1
    assert [e.first for e in found] == [True, False]


def test_include_adds_and_exclude_takes_away():
    unused: set[str] = set()
    found = entries(
        unused=unused,
        grid={"cores": [1, 2], "instances": [1]},
        include=[{"models": ["alexnet"], "cores": [3]}],
        exclude=[{"models": ["resnet50"], "cores": [2]}, {"cores": [9]}],
    )
    sources = [(e.cell.source.partition(":")[2], e.cell.cores) for e in found]
    assert sources == [("resnet50", 1), ("mobilenet_v2", 1), ("mobilenet_v2", 2), ("alexnet", 3)]
    assert unused == {"spec.exclude[1]"}


AXES = {
    "cores": st.sampled_from([1, 2, 4, 7, 14]),
    "instances": st.sampled_from([1, 2, "fill"]),
    "batchSize": st.integers(1, 4),
    "setSize": st.integers(1, 3),
    "mos": st.sampled_from(["lut", "none", "cores", 1]),
}


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(
        {}, optional={n: st.lists(v, min_size=1, max_size=3, unique=True) for n, v in AXES.items()}
    ),
    st.integers(),
)
def test_ids_do_not_depend_on_the_order_of_axes(grid, seed):
    shuffled = {name: random.Random(seed).sample(grid[name], len(grid[name])) for name in reversed(grid)}
    first, second = entries(grid=grid), entries(grid=shuffled)
    assert {(e.objective, e.id, e.unfit) for e in first} == {(e.objective, e.id, e.unfit) for e in second}
    assert len({(e.objective, e.id) for e in first}) == len(first) <= count_points(sweep(grid=grid).spec)
