from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from runner import backends, stats
from runner.backends import (
    Bench,
    ExportReport,
    host_cpu,
    instance_group,
    instance_server,
    onnxruntime,
    ort_session,
)
from runner.backends.instance import Drive, Driven, Finished, Job, Loaded, now_ns
from runner.cells import CELL_FIELDS, Cell
from runner.errors import AicsweepError, Infeasible, PointFailed

REPOSITORY = Path(__file__).parents[2]
USABLE = len(host_cpu.usable().cores)
CELL = Cell(
    source="onnx:test",
    weights="file",
    image_size=32,
    opset=0,
    precision="fp32",
    backend="onnxruntime",
    batch_size=2,
    cores=1,
    instances=1,
    set_size=3,
    seconds=0.1,
    repeats=3,
)
REPORT = ExportReport(
    input_name="image",
    output_name="scores",
    output_shape=(1, 10),
    opset=13,
    weights="file",
    revision="",
    parameters=0,
    clipped_values=0,
    max_abs_error=None,
    relative_error=None,
    output_scale=None,
    export_s=0.0,
    peak_memory_bytes=0,
    versions={},
)


def save(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> Path:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch_size", 3, "s", "s"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "test", [image], [scores], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def cnn(folder: Path) -> Path:
    """Convolution, pooling and a classifier."""
    source = np.random.default_rng(1)
    return save(
        folder / "cnn.onnx",
        [
            helper.make_node("Conv", ["image", "kernel"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("GlobalAveragePool", ["c"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w"], ["scores"]),
        ],
        {"kernel": source.standard_normal((32, 3, 3, 3)), "w": source.standard_normal((32, 10))},
    )


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with onnxruntime.open_bench(onnxruntime.devices("all")[0]) as opened:
        yield opened


def instances_alive() -> list[psutil.Process]:
    """Instances of this process's benches."""
    return below_server(psutil.Process())


def below_server(parent: psutil.Process) -> list[psutil.Process]:
    return [grandchild for child in parent.children() for grandchild in child.children()]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited 30 s in vain"
        time.sleep(0.01)


def test_the_module_is_a_backend():
    backend = backends.load("onnxruntime")
    assert (backend.NAME, backend.EMULATED, backend.COMPILES_ON) == ("onnxruntime", False, "target")
    assert set(CELL_FIELDS) >= backend.PARAMETERS
    assert set(CELL_FIELDS) - backend.PARAMETERS == {"hardware", "ols", "mos", "extra", "neighbours"}
    assert backend.capacity("std").cores == USABLE
    assert backend.estimate(CELL).overhead_s > 0
    assert backend.compile_flags(CELL) == []


def test_it_has_no_compile_stage(cnn, tmp_path):
    with pytest.raises(AicsweepError, match="no compile stage"):
        onnxruntime.compile(CELL, cnn, tmp_path)


def test_rows_name_the_versions_that_measured():
    facts = onnxruntime.provenance()
    assert facts["numpy"] == np.__version__
    assert facts["execution_provider"] == "CPUExecutionProvider"
    assert onnxruntime.compiler_version() == f"onnxruntime-{facts['onnxruntime']}"


def test_a_measurement_is_consistent_and_says_what_went_in_and_came_out(bench, cnn):
    cell = replace(CELL, instances=USABLE)
    measured = bench.measure(cell, cnn, None, REPORT)
    assert len(measured.windows) == cell.repeats
    # On one instance: where a busy host slows one of several, their pooled mean is not the law's.
    alone = stats.summarise(bench.measure(replace(CELL, instances=1), cnn, None, REPORT).windows)
    ratio = stats.littles_law_ratio(alone, instances=1, set_size=3, batch=2)
    assert ratio == pytest.approx(1.0, abs=0.25)
    inputs = ort_session.normal_inputs(3, (2, 3, 32, 32))
    assert measured.input_digest == hashlib.sha256(b"".join(a.tobytes() for a in inputs)).hexdigest()
    import onnxruntime as ort

    first = ort.InferenceSession(cnn, ort_session.options(1, spinning=False)).run(None, {"image": inputs[0]})
    assert measured.output_digest == hashlib.sha256(first[0].tobytes()).hexdigest()
    assert measured.peak_memory_bytes > USABLE * 10_000_000
    assert measured.facts["spinning"] == "off"
    cpus = [core.cpu for core in host_cpu.usable().cores]
    assert measured.facts["pinned"] == "|".join(map(str, cpus))
    assert instances_alive() == []


def test_inputs_are_distinct_normal_and_the_same_every_time():
    first, again = (ort_session.normal_inputs(4, (2, 3, 32, 32)) for _ in range(2))
    assert len({array.tobytes() for array in first}) == 4
    assert ort_session.digest(first) == ort_session.digest(again)
    assert np.mean(first) == pytest.approx(0, abs=0.03)
    assert np.std(first) == pytest.approx(1, abs=0.03)


def test_every_thread_of_an_instance_runs_on_its_own_cores_only(cnn):
    # Two layouts: one instance on all cores (a pool of threads), and an instance on each core.
    cpus = [core.cpu for core in host_cpu.usable().cores]
    for groups in ([tuple(cpus)], [(cpu,) for cpu in cpus]):
        jobs = [Job(cnn, "image", "scores", (1, 3, 32, 32), 1, group, spinning=False) for group in groups]
        with instance_server.opened() as server, instance_group.running(server, jobs) as group:
            group.answers(Loaded, 60, "loading")
            group.tell(Drive(now_ns(), at_least=3))
            group.answers(Driven, 60, "running")
            for pid, job in zip(group.pids, jobs, strict=True):
                masks = [os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()]
                assert len(masks) >= len(job.cpus)
                assert all(mask == set(job.cpus) for mask in masks)
            group.tell(None)
            assert all(answer.peak_memory_bytes > 0 for answer in group.answers(Finished, 60, "ending"))


def test_importing_onnxruntime_through_us_starts_no_telemetry(tmp_path):
    script = (
        "import os; from runner.backends import ort_session; print(len(os.listdir('/proc/self/task')),"
        " [str(p) for p in __import__('pathlib').Path(os.environ['HOME']).rglob('*')])"
    )
    home = {"HOME": str(tmp_path), "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | home,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split(maxsplit=1) == ["1", "[]\n"]


def test_more_cores_than_there_are_is_refused(bench, cnn):
    with pytest.raises(Infeasible, match=r"need \d+ cores; there are \d+ physical core") as caught:
        bench.measure(replace(CELL, cores=1, instances=USABLE + 1), cnn, None, REPORT)
    assert (caught.value.stage, caught.value.reason) == ("run", "unfit")


def test_inputs_beyond_a_gibibyte_are_refused(bench, cnn):
    with pytest.raises(Infeasible, match=r"2\.0 GiB") as caught:
        bench.measure(replace(CELL, set_size=100, batch_size=36, image_size=224), cnn, None, REPORT)
    assert caught.value.reason == "input-memory"


def test_a_graph_that_can_not_be_loaded_is_this_points_failure(bench, tmp_path):
    garbage = tmp_path / "model.onnx"
    garbage.write_bytes(b"no graph at all")
    with pytest.raises(PointFailed, match="can't run the graph") as caught:
        bench.measure(CELL, garbage, None, REPORT)
    assert (caught.value.stage, caught.value.reason) == ("run", "run-error")
    assert instances_alive() == []


def test_a_graph_that_rejects_its_input_is_told_in_onnxruntimes_words(bench, folder):
    # A classifier for 7 features meets 3 channels.
    graph = save(
        folder / "mismatch.onnx",
        [
            helper.make_node("GlobalAveragePool", ["image"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "w"], ["scores"]),
        ],
        {"w": np.ones((7, 10))},
    )
    with pytest.raises(PointFailed, match=r"(?i)gemm|dimension|shape") as caught:
        bench.measure(CELL, graph, None, REPORT)
    assert caught.value.reason == "run-error"


def test_an_output_that_is_not_finite_is_wrong(bench, folder):
    graph = save(folder / "log.onnx", [helper.make_node("Log", ["image"], ["scores"])], {})
    with pytest.raises(PointFailed, match="output values for input 0 are not finite") as caught:
        bench.measure(CELL, graph, None, REPORT)
    assert caught.value.reason == "wrong-output"


def test_a_window_too_short_for_the_model_is_extended(bench, cnn):
    cell = replace(CELL, image_size=128, seconds=0.001, set_size=10)
    measured = bench.measure(cell, cnn, None, REPORT)
    assert all(window.duration_s > cell.seconds for window in measured.windows)
    assert all(len(window.latencies_s) >= 3 for window in measured.windows)


def test_a_model_too_slow_for_the_longest_window_fails_and_names_the_setting(bench, cnn, monkeypatch):
    monkeypatch.setattr(onnxruntime, "LONGEST_WINDOW_S", 0.0)
    monkeypatch.setattr(onnxruntime, "LONGEST_WINDOW_FACTOR", 1.0)
    with pytest.raises(PointFailed, match=r"measure\.seconds") as caught:
        bench.measure(replace(CELL, image_size=128, seconds=0.001, set_size=10), cnn, None, REPORT)
    assert caught.value.reason == "too-slow"
    assert instances_alive() == []


def test_loading_has_a_time_limit(bench, cnn, monkeypatch):
    monkeypatch.setattr(onnxruntime, "LOAD_LIMIT_S", 0.0)
    with pytest.raises(PointFailed, match="no answer after 0 s of loading the graph") as caught:
        bench.measure(CELL, cnn, None, REPORT)
    assert caught.value.reason == "time-limit"
    assert instances_alive() == []


@pytest.mark.parametrize(("number", "says"), [(signal.SIGKILL, "memory"), (signal.SIGSEGV, "SIGSEGV")])
def test_an_instance_that_dies_is_this_points_failure(bench, cnn, number, says):
    def kill_one() -> None:
        wait_for(lambda: [p for p in instances_alive() if p.cpu_times().user > 0.2])
        instances_alive()[-1].send_signal(number)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(PointFailed, match=says) as caught:
        bench.measure(replace(CELL, instances=USABLE, seconds=60), cnn, None, REPORT)
    killer.join()
    assert (caught.value.stage, caught.value.reason) == ("run", "killed")
    assert instances_alive() == []


PARENT = """
import pickle, sys
from pathlib import Path
from runner.backends import onnxruntime
onnxruntime.WARMUP_S = 0.05  # after that, an instance asks nobody anything for three minutes
with onnxruntime.open_bench(onnxruntime.devices("all")[0]) as bench:
    bench.measure(*pickle.load(sys.stdin.buffer))
"""


@pytest.mark.parametrize("worked_s", [0.0, 0.3], ids=["starting", "measuring"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_no_instance_outlives_its_parent(cnn, number, worked_s):
    cell = replace(CELL, instances=USABLE, seconds=60)
    parent = psutil.Popen(
        [sys.executable, "-c", PARENT],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        parent.stdin.write(pickle.dumps((cell, cnn, None, REPORT)))
        parent.stdin.close()
        wait_for(lambda: any(p.cpu_times().user >= worked_s for p in below_server(parent)))
        descendants = parent.children(recursive=True)
        if number == signal.SIGINT:
            # As a terminal does: to everyone.
            os.killpg(parent.pid, number)
        else:
            parent.send_signal(number)
        assert parent.wait(timeout=20) != 0
        _, alive = psutil.wait_procs(descendants, timeout=10)
        assert alive == []
        said = parent.stderr.read().decode()
        # Ctrl-C is the parent's: its traceback is the only one.
        assert "instance.py" not in said
        assert said.count("Traceback") <= 1
        parent.stderr.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)


def test_an_instance_that_starts_after_its_parent_died_ends_at_once():
    script = (
        "from multiprocessing import Pipe; from runner.backends import instance; reader, writer = Pipe(False);"
        " writer.close(); instance.die_with_parent(reader); print('lives')"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, b"", b"")


def test_a_busy_neighbour_on_the_same_core_is_said(bench, cnn):
    cpu = host_cpu.usable().cores[0].cpu
    spin = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as neighbour:
        try:
            measured = bench.measure(replace(CELL, seconds=0.4, repeats=2), cnn, None, REPORT)
        finally:
            neighbour.kill()
    assert measured.warnings == ("host-busy",)
    assert float(measured.facts["others_load"]) > 0.1
