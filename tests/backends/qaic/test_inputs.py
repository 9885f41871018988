"""Input files and their description, as the vendor's runner wants them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runner.backends.qaic import inputs
from runner.errors import Infrastructure

SHAPE = (2, 3, 8, 8)


def test_the_description_is_the_vendors(tmp_path: Path) -> None:
    inputs.write(tmp_path / "inputFiles", "input", (1, 3, 224, 224), 1)
    described = json.loads((tmp_path / "inputFiles" / "aic_batch_io.json").read_text())
    assert described == {
        "IO-files": [
            [
                {
                    "path": "input_img_1x3x224x224.raw",
                    "io-direction": "in",
                    "elem-size": 4,
                    "map-to": "input",
                    "dims": [1, 3, 224, 224],
                }
            ]
        ]
    }
    assert (tmp_path / "inputFiles" / "input_img_1x3x224x224.raw").stat().st_size == 4 * 3 * 224 * 224


def test_inputs_are_distinct_normal_and_the_same_again(tmp_path: Path) -> None:
    first = inputs.write(tmp_path / "a", "x", (4, 3, 32, 32), 3)
    again = inputs.write(tmp_path / "b", "x", (4, 3, 32, 32), 3)
    assert first.digest == again.digest
    data = [np.fromfile(tmp_path / "a" / name, "<f4") for name in first.files]
    assert len({values.tobytes() for values in data}) == 3
    assert abs(float(np.concatenate(data).mean())) < 0.05
    assert float(np.concatenate(data).std()) == pytest.approx(1, abs=0.05)


def test_an_input_is_a_piece_of_the_stream_of_images(tmp_path: Path) -> None:
    written = inputs.write(tmp_path, "x", SHAPE, 3)
    for number, name in enumerate(written.files):
        pixels = np.fromfile(tmp_path / name, "<f4").reshape(SHAPE)
        np.testing.assert_array_equal(pixels, inputs.images(2 * number, 2, SHAPE[1:]))


def test_large_inputs_are_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 4 * int(np.prod(SHAPE))
    monkeypatch.setattr(inputs, "MOST_BYTES", 2 * size + 1)
    assert len(inputs.write(tmp_path / "a", "x", SHAPE, 10).files) == 2
    monkeypatch.setattr(inputs, "MOST_BYTES", 1)
    assert len(inputs.write(tmp_path / "b", "x", SHAPE, 10).files) == 1


def test_a_runner_gets_json_or_files(tmp_path: Path) -> None:
    written = inputs.write(tmp_path, "x", SHAPE, 2)
    json_argv = written.for_runner(json=True, prefix="./inputFiles").argv()
    assert json_argv == ["--aic-batch-json-input", "./inputFiles/aic_batch_io.json"]
    files = written.for_runner(json=False, prefix="./inputFiles").argv()
    assert files == [
        "-i", "./inputFiles/input_img_2x3x8x8.raw", "-i", "./inputFiles/input_img_2x3x8x8-1.raw",
    ]  # fmt: skip


def test_a_folder_that_cant_be_written_is_the_hosts_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Infrastructure, match="can't be written") as caught:
        inputs.write(tmp_path / "file" / "inputFiles", "x", SHAPE, 1)
    assert caught.value.reason == "disk"
