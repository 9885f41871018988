"""Exports for real, in workers: small models of several kinds."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from runner import process, scratch
from runner.errors import BadInput, Infrastructure, Interrupted, PointFailed
from runner.keys import ExportRequest, digest_bytes
from runner.stages import export


@pytest.fixture(scope="module")
def exporter():
    with export.open_exporter() as workers:
        yield workers


def request(
    source: str, size: int = 224, weights: str = "random", opset: int = 13, location: str = ""
) -> ExportRequest:
    return ExportRequest(source, weights, size, opset, location)


def run(path: Path, name: str, batch: int, size: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(7).standard_normal((batch, 3, size, size)).astype(np.float32)
    return session.run(None, {name: pixels})[0]


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("torchvision:squeezenet1_1", 224),
        ("torchvision:mobilenet_v3_small", 224),
        ("torchvision:shufflenet_v2_x0_5", 224),
        ("torchvision:resnet18", 96),
        ("torchvision:efficientnet_b0", 224),
        ("torchvision:mnasnet0_5", 224),
        ("torchvision:inception_v3", 299),
        ("torchvision:vit_b_32", 224),
        ("hf:microsoft/resnet-50@main", 224),
    ],
)
def test_one_model_a_family(exporter, tmp_path, source, size):
    report = exporter.export(request(source, size), tmp_path)
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert [entry.version for entry in model.opset_import if not entry.domain] == [13]
    assert [value.name for value in model.graph.output] == ["output"]
    dims = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch_size", 3, size, size]
    assert report.relative_error is not None
    assert report.relative_error < 1e-3
    assert report.output_scale is not None
    assert 0.1 < report.output_scale < 1000
    assert run(tmp_path / "model.onnx", "input", 3, size).shape == (3, *report.output_shape)
    assert report.weights == "random"


def test_two_exports_are_the_same_bytes(exporter, tmp_path):
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        exporter.export(request("torchvision:shufflenet_v2_x0_5", 64), tmp_path / name)
        digests.add(digest_bytes((tmp_path / name / "model.onnx").read_bytes()))
    assert len(digests) == 1


@pytest.mark.parametrize("source", ["torchvision:squeezenet1_1", "hf:microsoft/resnet-50@main"])
def test_weights_that_cannot_be_had_are_one_clear_error(exporter, tmp_path, monkeypatch, source):
    # A cache that is empty and no way out: what a machine without network meets.
    with pytest.raises(BadInput) as caught:
        exporter.export(request(source, weights="pretrained"), tmp_path)
    (problem,) = caught.value.problems
    assert problem.path == "spec.weights"
    assert "can't be had" in problem.message
    assert "random" in problem.remedy
    assert not (tmp_path / "model.onnx").exists()


def test_what_torchvision_does_not_have(exporter, tmp_path):
    with pytest.raises(BadInput, match="no classification model"):
        exporter.export(request("torchvision:resnet51"), tmp_path)


def test_an_image_too_small_is_the_points_failure_with_the_log(exporter, tmp_path):
    with pytest.raises(PointFailed) as caught:
        exporter.export(request("torchvision:alexnet", 16), tmp_path)
    assert (caught.value.stage, caught.value.reason) == ("export", "export-error")
    assert "Traceback" in caught.value.log_tail


def test_a_worker_that_takes_too_long_is_ended(tmp_path):
    with export.open_exporter(time_limit_s=0.05) as workers, pytest.raises(PointFailed, match="more than"):
        workers.export(request("torchvision:resnet18"), tmp_path)


def test_a_worker_ends_when_we_are_asked_to(tmp_path):
    process.stopping.set()
    with export.open_exporter() as workers, pytest.raises(Interrupted):
        workers.export(request("torchvision:resnet50"), tmp_path)


def test_a_worker_that_is_killed_costs_its_model_only(exporter, tmp_path):
    def kill_the_worker() -> None:
        for _ in range(200):
            # Other tests' servers have children too.
            servers = [
                p for p in psutil.Process().children() if "multiprocessing.forkserver" in str(p.cmdline())
            ]
            workers = [p for server in servers for p in server.children()]
            if workers:
                os.kill(workers[0].pid, signal.SIGKILL)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=kill_the_worker)
    thread.start()
    with pytest.raises(PointFailed, match="signal 9") as caught:
        exporter.export(request("torchvision:vit_b_32"), tmp_path)
    thread.join()
    assert caught.value.reason == "killed"
    (tmp_path / "next").mkdir()
    assert exporter.export(request("torchvision:shufflenet_v2_x0_5", 64), tmp_path / "next").opset == 13


def test_a_graph_that_there_is_no_room_for_is_no_verdict_on_its_model(exporter, tmp_path):
    """Each write to /dev/full finds the disk full."""
    (tmp_path / "model.onnx").symlink_to("/dev/full")
    with pytest.raises(Infrastructure, match="No space left") as caught:
        exporter.export(request("torchvision:shufflenet_v2_x0_5", 64), tmp_path)
    assert caught.value.reason == "disk"
    assert "TMPDIR" in caught.value.remedy


def test_an_answer_that_there_is_no_room_for_is_no_verdict_on_its_model(exporter, tmp_path, monkeypatch):
    made = scratch.temporary

    @contextlib.contextmanager
    def full():
        with made() as files:
            (files / "answer.part").symlink_to("/dev/full")
            yield files

    monkeypatch.setattr(scratch, "temporary", full)
    with pytest.raises(Infrastructure, match="could not leave its answer") as caught:
        exporter.export(request("torchvision:alexnet", 16), tmp_path)
    assert caught.value.reason == "disk"


def onnx_file(
    path: Path, batch: str | int | None = "n", scale: float = 1.0, edge: str | int = 32
) -> ExportRequest:
    weights = numpy_helper.from_array(np.full((4, 3, 3, 3), scale, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, edge, edge])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, 1, 1])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return request(f"onnx:{digest_bytes(path.read_bytes())}", 32, "file", 0, str(path))


def test_an_onnx_file_is_taken_as_it_is_and_clipped(exporter, tmp_path):
    (tmp_path / "out").mkdir()
    report = exporter.export(onnx_file(tmp_path / "x.onnx", scale=1e6), tmp_path / "out")
    assert (report.input_name, report.output_name, report.weights, report.clipped_values) == (
        "x",
        "y",
        "file",
        108,
    )
    model = onnx.load(str(tmp_path / "out" / "model.onnx"))
    assert numpy_helper.to_array(model.graph.initializer[0]).max() == 65504


@pytest.mark.parametrize("batch", ["n", "batch_size", None])
@pytest.mark.parametrize("edge", ["side", 32])
def test_dimensions_of_an_onnx_file_are_named_as_in_our_own_exports(exporter, tmp_path, batch, edge):
    (tmp_path / "out").mkdir()
    exporter.export(onnx_file(tmp_path / "x.onnx", batch=batch, edge=edge), tmp_path / "out")
    graph = onnx.load(str(tmp_path / "out" / "model.onnx")).graph
    shape = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch_size", 3, 32, 32]
    assert run(tmp_path / "out" / "model.onnx", "x", 2, 32).shape == (2, 4, 1, 1)


def test_onnx_files_that_cannot_be_swept(exporter, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(PointFailed, match="fixed batch of 4"):
        exporter.export(onnx_file(tmp_path / "x.onnx", batch=4), tmp_path / "out")
    wanted = onnx_file(tmp_path / "x.onnx")
    (tmp_path / "x.onnx").write_bytes(b"other")
    with pytest.raises(PointFailed, match="changed since"):
        exporter.export(wanted, tmp_path / "out")
    garbage = request(f"onnx:{digest_bytes(b'other')}", 32, "file", 0, str(tmp_path / "x.onnx"))
    with pytest.raises(PointFailed, match=r"x\.onnx"):
        exporter.export(garbage, tmp_path / "out")
