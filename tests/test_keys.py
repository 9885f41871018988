"""Identities are for ever: these values may only change together with SCHEME."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import keys
from runner.cells import Cell, identify
from runner.keys import ExportRequest

CELL = Cell(
    source="torchvision:resnet50", weights="random", image_size=224, opset=13, precision="fp16", backend="qaic",
    batch_size=13, cores=7, instances=2, set_size=3, seconds=20.0, repeats=5, hardware="std", ols=2, mos="1",
    extra="-multicast-weights", neighbours="same-card-idle",
)  # fmt: skip
REQUEST = ExportRequest("torchvision:resnet50", "random", 224, 13)


def test_ids_are_what_they_always_were():
    assert identify(CELL) == "41519131948f56f9f224f7b148e3d4ce"
    assert keys.slot_id("a" * 32) == "a071cb07802f03fb835fa6fe99036a7d"
    assert REQUEST.id == "895aec9d0cc4aaf3c99a2284fc52af31"
    assert keys.export_key(REQUEST, {"torch": "2.15.0"}) == "6c08303b1c0a99f6c173140d1bcd05aa"


def test_a_field_that_is_absent_changes_no_id():
    # The guard that lets a later version add a parameter without orphaning all results.
    assert identify(replace(CELL, mos=None)) != identify(CELL)
    bare = Cell(*[getattr(CELL, n) for n in Cell.__slots__[:12]])
    content = {n: getattr(bare, n) for n in Cell.__slots__[:12]}
    assert identify(bare) == keys.cell_id(content)


@pytest.mark.parametrize("name", Cell.__slots__)
def test_every_parameter_of_a_cell_decides(name):
    value = getattr(CELL, name)
    other = value + 1 if isinstance(value, int | float) else f"{value}x"
    assert identify(replace(CELL, **{name: other})) != identify(CELL)


def test_location_and_build_of_torch_do_not_decide():
    assert (
        ExportRequest("onnx:abc", "file", 224, 0, "/a").id
        == ExportRequest("onnx:abc", "file", 224, 0, "/b").id
    )
    assert keys.export_key(REQUEST, {"torch": "2.15.0+cpu"}) == keys.export_key(REQUEST, {"torch": "2.15.0"})
    assert keys.export_key(REQUEST, {"torch": "2.14.0"}) != keys.export_key(REQUEST, {"torch": "2.15.0"})


def test_binary_key_depends_on_every_part_and_the_flags_order():
    base = {"graph_digest": "g", "flags": ["-a", "-b"], "compiler": "c", "hardware": "h"}
    others = [
        {**base, "graph_digest": "x"},
        {**base, "flags": ["-b", "-a"]},
        {**base, "compiler": "x"},
        {**base, "hardware": "x"},
        {**base, "cpu_features": ["avx2"]},
    ]
    found = {keys.binary_key(**arguments) for arguments in [base, *others]}
    assert len(found) == 6


def test_slot_differs_by_target_and_from_its_cell():
    assert len({keys.slot_id("c"), keys.slot_id("c", "node-1"), keys.slot_id("d"), "c"}) == 4


VALUES = st.one_of(st.none(), st.integers(-5, 5000), st.floats(allow_nan=False), st.text(max_size=5))


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abc_", min_size=1, max_size=3), st.lists(VALUES, min_size=1, max_size=3, unique_by=repr)
    ),
    st.lists(st.integers(0, 11), max_size=20),
    st.sampled_from(["any", 'a "node"']),
)
def test_many_ids_at_once_are_those_of_one_at_a_time(values, picks, target):
    fields = {**values, "always": ["there"]}
    numbers = {name: np.array(picks, dtype=np.int32) % len(found) for name, found in fields.items()}
    cells = keys.identities("cell", {name: (found, numbers[name]) for name, found in fields.items()})
    contents = [
        {name: value for name, found in fields.items() if (value := found[numbers[name][n]]) is not None}
        for n in range(len(picks))
    ]
    texts = [row.tobytes().hex() for row in cells]
    assert texts == [keys.cell_id(content) for content in contents]
    slots = keys.slot_ids(cells, target)
    assert [row.tobytes().hex() for row in slots] == [keys.slot_id(cell, target) for cell in texts]
