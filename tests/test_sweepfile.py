import pytest
import yaml

from runner.errors import BadInput
from runner.sweepfile import MAX_BYTES, load_sweep, parse_sweep, sweep_from_object

GOOD = {
    "apiVersion": "aicsweep.dev/v1alpha1",
    "kind": "Sweep",
    "metadata": {"name": "a"},
    "spec": {"models": ["resnet50"]},
}


def problems(data: bytes) -> dict[str, str]:
    with pytest.raises(BadInput) as caught:
        parse_sweep(data)
    return {p.path.split(" (")[0]: f"{p.message} {p.remedy}" for p in caught.value.problems}


def spec_problems(**spec) -> dict[str, str]:
    return problems(yaml.safe_dump({**GOOD, "spec": {**GOOD["spec"], **spec}}).encode())


def test_defaults():
    sweep = parse_sweep(yaml.safe_dump(GOOD).encode())
    assert sweep.spec.backend == "onnxruntime"
    assert sweep.store_prefix() == "sweeps/local/default/a/1"


def test_a_date_is_a_label():
    text = yaml.safe_dump(GOOD).encode() + b"  run: 2026-11-24\n"
    assert parse_sweep(text).spec.run == "2026-11-24"


def test_many_mistakes_at_once_each_with_path_and_remedy():
    found = spec_problems(
        run=1,
        backend="qiac",
        models=["resnet5O"],
        objective=["best-latency"],
        grid={"cores": [1, 0], "instances": ["full"], "setsize": [1], "ols": [1, 1], "batchSize": []},
        measure={"seconds": "5"},
    )
    assert set(found) == {
        "spec.run", "spec.backend", "spec.models[0]", "spec.objective", "spec.grid.cores[1]",
        "spec.grid.instances[0]", "spec.grid.setsize", "spec.grid.ols", "spec.grid.batchSize", "spec.measure.seconds",
    }  # fmt: skip
    assert "quotes" in found["spec.run"]
    assert "resnet50" in found["spec.models[0]"]
    assert "setSize" in found["spec.grid.setsize"]
    assert "twice" in found["spec.grid.ols"]
    assert "is empty" in found["spec.grid.batchSize"]


def test_the_line_is_told():
    with pytest.raises(BadInput, match=r"spec\.modls \(line 4\)"):
        parse_sweep(
            b"apiVersion: aicsweep.dev/v1alpha1\nkind: Sweep\nmetadata: {name: a}\nspec: {modls: [x]}\n"
        )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"- 1", "no mapping"),
        (b"a: [", "not YAML"),
        (b"\xff\xfe\x00", "not"),
        (b"a: 1\n---\nb: 2\n", "several documents"),
        (b"a: 1\na: 2\n", "twice"),
        (b"[" * 5000, "nested deeper"),
        (b"x" * (64 * 1024 + 1), "larger than 64 KiB"),
    ],
)
def test_what_is_no_sweep_at_all(data, words):
    assert words in str(problems(data))


def test_an_alias_bomb_is_refused_before_it_expands():
    levels = ["a0: &a0 [" + "1," * 10 + "]"]
    levels += [f"a{i}: &a{i} [" + f"*a{i - 1}," * 10 + "]" for i in range(1, 10)]
    assert "20,000 values" in str(problems("\n".join(levels).encode()))


def test_another_kind():
    assert "kind" in problems(yaml.safe_dump({**GOOD, "kind": "Job"}).encode())


def test_a_large_file_is_not_read_whole(tmp_path):
    path = tmp_path / "big.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(BadInput, match="larger than"):
        load_sweep(path)
    with pytest.raises(BadInput, match="No such file"):
        load_sweep(tmp_path / "none.yaml")


def test_the_same_model_by_two_names():
    assert "same model" in spec_problems(models=["alexnet", "torchvision:alexnet"])["spec.models"]


def test_words_that_name_no_value_in_exclude():
    assert "names no value" in str(spec_problems(exclude=[{"instances": ["fill"]}]))


@pytest.mark.parametrize("value", ["17", "1,17", "01", "1,", "1, 7", "²", ",".join("1" * 17), 0, 17])
def test_what_is_no_mos(value):
    assert list(spec_problems(grid={"mos": [value]})) == ["spec.grid.mos[0]"]


@pytest.mark.parametrize("value", ["lut", "none", "cores", "16", "1,7", ",".join(["16"] * 16), 1, 16])
def test_what_is_a_mos(value):
    document = {**GOOD, "spec": {**GOOD["spec"], "grid": {"mos": [value]}}}
    assert sweep_from_object(document).spec.grid.mos == (value,)


def test_a_toleration_that_no_pod_may_have():
    found = spec_problems(pods={"tolerations": [{"operator": "Exists", "value": "x"}, {"value": "x"}]})
    assert "takes no value" in found["spec.pods.tolerations[0]"]
    assert "needs a key" in found["spec.pods.tolerations[1]"]


def test_a_large_object_is_refused_by_its_spec_alone():
    fields = {"managedFields": [{"manager": "x" * MAX_BYTES}]}
    assert sweep_from_object({**GOOD, "metadata": {"name": "a", **fields}}).name == "a"
    large = {**GOOD, "spec": {"models": ["resnet50"], "pods": {"buildImage": "x" * MAX_BYTES}}}
    with pytest.raises(BadInput, match="spec: larger than 64 KiB"):
        sweep_from_object(large)


def test_requests_to_measure_again_are_read_strictly():
    good = [{"id": "a", "where": "warnings or ci > 2%"}, {"id": "b", "where": "status == 'failed'"}]
    sweep = parse_sweep(yaml.safe_dump({**GOOD, "spec": {**GOOD["spec"], "again": good}}).encode())
    assert [request.where for request in sweep.spec.again] == [entry["where"] for entry in good]
    found = spec_problems(again=[{"id": "a b", "where": "cores = 1"}, {"where": "x" * 1025, "were": 1}])
    assert set(found) == {
        "spec.again[0].id", "spec.again[0].where", "spec.again[1].id", "spec.again[1].were", "spec.again[1].where",
    }  # fmt: skip
    assert "'cores = 1' is no condition" in found["spec.again[0].where"]
    assert "did you mean where" in found["spec.again[1].were"]
    assert "two requests have the id 'a'" in spec_problems(again=[good[0], good[0]])["spec.again"]
    many = [{"id": f"r{number}", "where": "tie"} for number in range(33)]
    assert "at most 32" in spec_problems(again=many)["spec.again"]
