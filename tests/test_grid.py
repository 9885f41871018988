"""What grids list is tested against a loop over points in test_listing; here is what only a grid knows."""

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import catalogue, lut
from runner.backends.fake import compile_flags
from runner.cells import CELL_FIELDS, Cell
from runner.grid import Grid, looked_up
from tests.reference import CARD
from tests.samples import sweep

AXES = {
    "cores": [1, 2, 7],
    "instances": [1, 2, "fill"],
    "setSize": [1, 2],
    "batchSize": [1, 4],
    "mos": ["lut", "none"],
    "imageSize": [224, 240],
}


def a_grid(**axes) -> tuple[Grid, list[Cell]]:
    spec, values = sweep(grid=axes).spec, defaultdict(dict)
    row = lut.shipped()["resnet50", "best-throughput"]
    grid = Grid(spec, catalogue.MODELS["resnet50"], "best-throughput", row, spec.grid, CARD, values)
    columns = grid.columns(np.arange(grid.size))
    fields = zip(*(looked_up(values[name], columns[name]) for name in CELL_FIELDS), strict=True)
    return grid, [Cell(*each) for each in fields]


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries({}, optional={name: st.just(values) for name, values in AXES.items()}))
def test_points_of_one_build_share_graph_and_flags_and_others_do_not(axes):
    grid, cells = a_grid(**axes)
    builds = grid.builds(np.arange(grid.size)).tolist()
    of_build = defaultdict(set)
    for build, cell in zip(builds, cells, strict=True):
        of_build[build].add((cell.export_request, tuple(compile_flags(cell))))
    assert all(len(found) == 1 for found in of_build.values())
    assert all(builds[build] == build for build in of_build)
    run_axes = len(axes.get("instances", [0])) * len(axes.get("setSize", [0]))
    assert len(of_build) == grid.size // run_axes
