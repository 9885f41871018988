import pytest

from runner import artifacts, handover
from runner.errors import Infeasible, PointFailed, StoreError
from runner.store import open_store
from tests.test_plan import planned


@pytest.fixture
def home():
    return open_store("memory:")


def test_answers_reach_the_other_pods_as_they_were(home, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    graph = artifacts.publish(home, "export", "k1", tmp_path, {"opset": 13})
    made = planned(models=["resnet50"], limits={"lotMinutes": 5})
    tasks = made.lot(1)
    failed = PointFailed("compile", "time-limit", "took too long", remedy="wait", log_tail="x" * 9999)
    refused = Infeasible("compile", "no-memory", "too large")
    binaries = [task.binary for task in made.tasks()]
    handover.put_exports(home, made.digest, {tasks[0].export: graph})
    for number in range(made.lots):
        answers = {
            task.binary: failed if task.binary == binaries[0] else refused for task in made.to_compile(number)
        }
        handover.put_binaries(home, made.digest, number, answers)

    every = handover.made_for(home, made, made.tasks())
    assert every.exports == {tasks[0].export: graph}
    assert every.binaries.keys() == set(binaries)
    told = every.binaries[binaries[0]]
    assert (type(told), told.stage, told.reason, str(told)) == (
        PointFailed,
        "compile",
        "time-limit",
        str(failed),
    )
    assert len(told.log_tail) == 4096
    assert type(every.binaries[binaries[-1]]) is Infeasible
    # A lot asks only for what it needs.
    some = handover.made_for(home, made, tasks)
    assert {task.binary for task in tasks} <= some.binaries.keys()


def test_what_nobody_answered_is_left_out(home):
    made = planned()
    found = handover.made_for(home, made, made.tasks())
    assert (found.exports, found.binaries) == ({}, {})


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"x": {}}', b'{"x": {"artifact": {"kind": "export"}}}',
     b'{"x": {"artifact": {"schema_number": 1, "kind": "export", "key": "k", "facts": {}, "files": '
     b'{"../../etc/passwd": {"size_bytes": 1, "sha256": "' + b"0" * 64 + b'"}}}}}'],
)  # fmt: skip
def test_a_damaged_answer_is_named_and_leads_nowhere(home, data):
    made = planned(models=["resnet50"])
    task = made.tasks()[0]
    home.put(f"made/{made.digest}/export/{task.export}.json", data)
    with pytest.raises(StoreError, match="can't be understood"):
        handover.exports_for(home, made, [task])
