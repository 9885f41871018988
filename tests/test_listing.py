import random

from hypothesis import given, settings
from hypothesis import strategies as st

from runner import cells, lut
from runner.cells import count_points
from tests import reference
from tests.reference import CARD, CPU, listed
from tests.samples import sweep


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
    found = listed(models=["resnet50"], objectives=["best-throughput", "best-latency"], grid=grid)
    assert len({e.id for e in found}) == 1
    assert [e.first for e in found] == [True, False]


def test_include_adds_and_exclude_takes_away():
    unused: set[str] = set()
    found = listed(
        unused=unused,
        grid={"cores": [1, 2], "instances": [1]},
        include=[{"models": ["alexnet"], "cores": [3]}],
        exclude=[{"models": ["resnet50"], "cores": [2]}, {"cores": [9]}],
    )
    sources = [(e.cell.source.partition(":")[2], e.cell.cores) for e in found]
    assert sources == [("resnet50", 1), ("mobilenet_v2", 1), ("mobilenet_v2", 2), ("alexnet", 3)]
    assert unused == {"spec.exclude[1]"}


def test_an_entry_that_is_excluded_measures_nothing_and_the_next_label_does():
    same = {"cores": [2], "instances": [7], "batchSize": [1], "setSize": [1], "ols": [1], "mos": ["none"]}
    found = listed(
        models=["resnet50"],
        objectives=["best-throughput", "best-latency"],
        grid={**same, "extra": [""]},
        exclude=[{"objectives": ["best-throughput"]}],
    )
    assert [(e.objective, e.first) for e in found] == [("best-latency", True)]


@settings(max_examples=150, deadline=None)
@given(reference.SPECS, st.sampled_from([CARD, CPU]))
def test_listings_are_what_a_loop_over_points_finds(spec, target):
    wanted = sweep(**spec).spec
    models = cells.models_of(wanted)
    assert listed(target, **spec) == reference.entries(wanted, models, lut.shipped(), target)


@settings(max_examples=40, deadline=None)
@given(reference.SPECS, st.integers())
def test_ids_do_not_depend_on_the_order_of_axes_and_values(spec, seed):
    grid = spec["grid"]
    shuffled = {name: random.Random(seed).sample(grid[name], len(grid[name])) for name in reversed(grid)}
    first, second = listed(**spec), listed(**{**spec, "grid": shuffled})
    assert {(e.objective, e.id, e.unfit) for e in first} == {(e.objective, e.id, e.unfit) for e in second}
    assert len({(e.objective, e.id) for e in first}) == len(first) <= count_points(sweep(**spec).spec)
