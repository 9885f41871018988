"""Right and wrong outputs, and the reference they are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from runner.backends.qaic import compare
from runner.errors import PointFailed
from tests.backends.qaic.networks import CLASSES, REPORT, SIZE, write_graph

SHAPE = (2, 3, SIZE, SIZE)
Outputs = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def reference(graph: Path) -> Outputs:
    return compare.References().outputs(graph, REPORT, SHAPE)


def test_an_output_rounded_to_fp16_is_right(reference: Outputs) -> None:
    check = compare.compare(reference.astype(np.float16).astype(np.float32), reference)
    assert 0 < check.relative_error < 1e-3
    assert check.cosine > 0.999999
    assert check.top1_agreement == 1.0
    assert compare.within(check, "fp16")
    assert compare.within(check, "fp32")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: y[:, ::-1],
        lambda y: y[::-1],
        lambda y: y * 0,
        lambda y: y * 1.2,
        lambda y: y + 0.1 * np.abs(y).max(),
        lambda y: np.where(np.arange(CLASSES) == 0, y + np.abs(y).max(), y),
    ],
)
def test_a_wrong_output_is_seen(reference: Outputs, spoil: object) -> None:
    check = compare.compare(np.ascontiguousarray(spoil(reference)), reference)  # type: ignore[operator]
    assert not compare.within(check, "fp16")
    error = compare.wrong_output(check, "fp16")
    assert error.reason == "wrong-output"


def test_figures_are_those_of_their_definition() -> None:
    actual = np.array([[3.0, 4.0], [0.0, 1.0]], dtype=np.float32)
    expected = np.array([[4.0, 3.0], [0.0, 1.0]], dtype=np.float32)
    check = compare.compare(actual, expected)
    assert check.max_abs_error == 1.0
    assert check.relative_error == 0.25
    assert check.top1_agreement == 0.5
    assert check.cosine == pytest.approx(25 / 26)


def test_int8_is_compared_and_not_judged(reference: Outputs) -> None:
    assert compare.within(compare.compare(-reference, reference), "int8")


def test_references_grow_and_serve_every_batch(graph: Path) -> None:
    references = compare.References()
    one = references.outputs(graph, REPORT, (1, *SHAPE[1:]))
    five = references.outputs(graph, REPORT, (5, *SHAPE[1:]))
    second = references.outputs(graph, REPORT, (2, *SHAPE[1:]), 1)
    np.testing.assert_allclose(five[:1], one, rtol=1e-5)
    np.testing.assert_array_equal(second, five[2:4])
    np.testing.assert_allclose(compare.References().outputs(graph, REPORT, (5, *SHAPE[1:])), five, rtol=1e-4)


def test_another_graph_at_the_same_place_is_run_anew(tmp_path: Path) -> None:
    references = compare.References()
    first = references.outputs(write_graph(tmp_path, seed=1), REPORT, SHAPE)
    (tmp_path / "model.onnx").unlink()
    second = references.outputs(write_graph(tmp_path, seed=2), REPORT, SHAPE)
    assert not np.allclose(first, second)


def test_a_graph_that_does_not_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"none")
    with pytest.raises(PointFailed, match="can't run the graph for comparison"):
        compare.References().outputs(tmp_path / "model.onnx", REPORT, SHAPE)


def test_outputs_are_read_as_written(tmp_path: Path, reference: Outputs) -> None:
    (tmp_path / "output-activation-0-inf-0.bin").write_bytes(reference.tobytes())
    (tmp_path / "output-activation-1-inf-0.bin").write_bytes(b"other")
    np.testing.assert_array_equal(compare.read_output(tmp_path, REPORT, 2), reference)
    # A name with a slash can't be a file's.
    renamed = replace(REPORT, output_name="/head/out")
    np.testing.assert_array_equal(compare.read_output(tmp_path, renamed, 2), reference)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "wrote 0 outputs"), (b"\x00" * 40, "has 40 bytes, 2 x 10 float32 are 80"), ("nan", "no numbers")],
)
def test_an_output_that_is_none_is_wrong(tmp_path: Path, content: object, said: str) -> None:
    if content is not None:
        data = np.full((2, CLASSES), np.nan, np.float32).tobytes() if content == "nan" else content
        (tmp_path / "output-activation-0-inf-0.bin").write_bytes(data)  # type: ignore[arg-type]
    with pytest.raises(PointFailed, match=said) as caught:
        compare.read_output(tmp_path, REPORT, 2)
    assert caught.value.reason == "wrong-output"
