"""The emulated compiler: strict about arguments, prints the known frame, leaves a program."""

import signal

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.emulated_sdk import Fault, qpc
from tests.emulated_sdk.desk import make_desk
from tests.emulated_sdk.styles import NOTICE

INVALID = "Invalid option {}. Use -h, -help, or --help for list of options."
FRAME = ["Reading ONNX Model from model.onnx", "Compile started ............... ",
         "Compiling model with FP16 precision.", "Generated binary is present at binary"]  # fmt: skip


def test_a_program_is_written_and_the_log_has_the_known_frame(desk):
    done = desk.compile()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("WARNING: ")] == FRAME
    assert done.stderr != ""
    program, graph = qpc.read(desk.folder / "binary")
    assert (program.cores, program.batch, program.stats_batch) == (2, 4, 4)
    assert graph == (desk.folder / "model.onnx").read_bytes()
    for path in (desk.folder / "binary").iterdir():
        assert path.read_bytes().startswith(NOTICE.encode())


def test_every_call_is_in_the_journal(desk):
    desk.compile()
    desk.compile()
    first, second = desk.sdk.calls("qaic-compile")
    assert first.argv == desk.compile_argv()
    assert (first.exit_code, second.exit_code, first.cwd) == (0, 255, str(desk.folder))
    assert first.started <= first.ended <= second.started
    assert "constants binary" in second.note


@pytest.mark.parametrize("style", ["1.10", "1.19"])
def test_styles_of_qaic_exec(tmp_path, style):
    desk = make_desk(tmp_path / "desk", style=style)
    assert not (desk.sdk.root / "exec" / "qaic-compile").exists()
    assert desk.compile(compile_only=None).returncode == 255
    assert desk.compile(aic_hw_version="ai100").returncode == 255
    done = desk.compile()
    assert done.returncode == 0
    assert done.stdout.startswith("loading compiler from: ") == (style == "1.10")
    assert ("WARNING: " in done.stdout) == (style == "1.19")
    assert f"<base_version>{style}</base_version>" in (desk.sdk.root / "versions" / "apps.xml").read_text()


@pytest.mark.parametrize(
    "option", ["-retained-state", "--aic-hw=x", "-ols1", "model.onnx", "-aic-profiling-type=stats"]
)
def test_an_unknown_option_is_refused_in_the_known_words(desk, option):
    done = desk.compile(option)
    assert done.returncode == 255
    assert INVALID.format(option.partition("=")[0]) in done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"aic_hw": None}, {"aic_hw": "true"}, {"aic_hw_version": None}, {"aic_hw_version": "2.0"},
        {"m": None}, {"m": "absent.onnx"}, {"aic_binary_dir": None}, {"aic_binary_dir": "absent/binary"},
        {"aic_num_cores": 0}, {"aic_num_cores": 17}, {"aic_num_cores": "two"}, {"ols": 0}, {"ols": True},
        {"mos": 3}, {"mos": "1,1"}, {"sdp_cluster_sizes": "7,7"}, {"aic_depth_first_mem": 33},
        {"convert_to_quantize": True}, {"batchsize": 8},
        {"onnx_define_symbol": None}, {"onnx_define_symbol": "N,4"}, {"onnx_define_symbol": "batch_size"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_arguments_are_refused_and_nothing_is_written(desk, changes):
    assert desk.compile(**changes).returncode == 255
    assert not (desk.folder / "binary").exists()


def test_the_vendors_flags_are_taken(desk):
    extra = ["-sdp-cluster-sizes=7,7", "-multicast-weights", "-use-producer-dma=1", "-aic-enable-depth-first",
             "-aic-depth-first-mem=32", "-aic-perf-metrics", "-compile-only"]  # fmt: skip
    done = desk.compile(*extra, aic_num_cores=14, mos="1,7")
    assert done.returncode == 0, done.stderr
    assert "final constants size: " in done.stdout


@pytest.mark.parametrize("content", [b"{}", b"", b"\x08\x07"])
def test_what_is_no_graph_is_refused_as_an_unsupported_operator_is(desk, content):
    (desk.folder / "model.onnx").write_bytes(content)
    done = desk.compile()
    assert done.returncode == 255
    assert "QAICException:Unable to AddNodesToGraphFromModel" in done.stderr


def test_weights_beside_the_graph_are_refused(desk):
    model = onnx.load(desk.folder / "model.onnx")
    weights = np.zeros((512, 512), np.float32)
    model.graph.initializer.append(helper.make_tensor("big", 1, weights.shape, weights.tobytes(), raw=True))
    onnx.save(model, desk.folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    assert desk.compile().returncode == 255


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("unsupported-operator", 255, "QAICException:Unable to AddNodesToGraphFromModel"),
        ("invalid-option", 255, INVALID.format("-retained-state")),
        ("schema-error", 255, "[json.exception.type_error.302] type must be string, but is object"),
        ("killed", -signal.SIGKILL, ""),
        ("no-binary", 0, ""),
        ("empty-binary", 0, ""),
    ],
)
def test_faults_leave_no_usable_program(desk, kind, code, text):
    desk.sdk.set_faults([Fault("compile", kind)])
    done = desk.compile()
    assert done.returncode == code
    assert text in done.stderr
    program = desk.folder / "binary" / qpc.NAME
    assert not program.exists() or program.stat().st_size == 0
