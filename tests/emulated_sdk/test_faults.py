"""Which calls a fault strikes, and that the README lists what there is."""

from pathlib import Path

import pytest

from tests.emulated_sdk import Fault, faults, install, styles
from tests.emulated_sdk.state import State

FACTS = {"model": "/somewhere/resnet50/model.onnx", "graph": "0a", "cores": 7, "batch": 4, "ols": 1, "mos": 1,
         "precision": "fp16"}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "strikes"),
    [
        (Fault("compile", "hang"), True),
        (Fault("runner", "hang"), False),
        (Fault("compile", "hang", where={"cores": 7, "model": "resnet50"}), True),
        (Fault("compile", "hang", where={"cores": [1, 7]}), True),
        (Fault("compile", "hang", where={"cores": 7, "batch": 1}), False),
        (Fault("compile", "hang", where={"model": "alexnet"}), False),
        (Fault("compile", "hang", argv="-ols=1 -mos"), True),
        (Fault("compile", "hang", argv="-mos=2"), False),
    ],
    ids=str,
)
def test_a_fault_strikes_the_calls_it_names(tmp_path, fault, strikes):
    install(tmp_path / "sdk", faults=[fault])
    met = State(tmp_path / "sdk").take_fault("compile", FACTS, ["-ols=1", "-mos=1"])
    assert met == ("hang" if strikes else "")


def test_a_fault_strikes_as_often_as_it_says_and_then_the_next_one_has_its_turn(tmp_path):
    listed = [Fault("compile", "hang", after=1, times=2), Fault("compile", "killed", times=1)]
    sdk = install(tmp_path / "sdk", faults=listed)
    state = State(sdk.root)
    assert [state.take_fault("compile", FACTS, []) for _ in range(5)] == ["killed", "hang", "hang", "", ""]
    sdk.set_faults(listed)
    assert state.take_fault("compile", FACTS, []) == "killed"


@pytest.mark.parametrize(
    "wrong",
    [{"tool": "compile", "kind": "no-output"}, {"tool": "util", "kind": "fail", "where": {"cores": 1}}],
)
def test_a_fault_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"compile has no fault|util knows no"):
        Fault(**wrong)


def test_the_readme_lists_every_fault_and_style():
    text = (Path(faults.__file__).parent / "README.md").read_text()
    for kinds in faults.KINDS.values():
        for kind, what in kinds.items():
            assert f"| `{kind}` | {what} |" in text
    assert all(f"| {version} |" in text for version in styles.STYLES)
