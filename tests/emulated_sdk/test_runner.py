"""The emulated runner: refuses what it should, prints and writes what the reference knows, fails on demand."""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.emulated_sdk import Card, Fault
from tests.emulated_sdk.desk import CLASSES, SHAPE, STATISTICS, make_desk, statistics, until

# As the vendor's runner printed them, in its notebooks.
SAMPLES = """\
InferenceCnt 21961 TotalDuration 20063118us BatchSize 4 Inf/Sec 4378.382
InferenceCnt 31905 TotalDuration 20042730us BatchSize 4 Inf/Sec 6367.396
InferenceCnt 6794 TotalDuration 10001122us BatchSize 1 Inf/Sec 679.324
InferenceCnt 1 TotalDuration 17224us BatchSize 1 Inf/Sec 58.059
"""
TIMES = ["hostRoundTripUs", "enqTimeUs", "preProcTimeUs", "submitTimeUs", "execTotalUs", "exectoVcUs",
         "execToCompleteUs", "postProcUs", "totalRoundtripTimeUs"]  # fmt: skip
DEVICE = ["devInfPerSec", "devExecUs", "devInWaitTimeUs", "devOutWaitTimeUs"]
WHOLE = {"hostRoundTripUs", "exectoVcUs", "execToCompleteUs"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, binary):
    """A desk after one usual run, and that run: 3 instances, 2 in flight. To be read only."""
    desk = make_desk(tmp_path_factory.mktemp("finished") / "desk")
    shutil.copytree(binary, desk.folder / "binary")
    done = desk.run()
    assert done.returncode == 0, done.stderr
    return desk, done


def test_the_statistics_obey_the_law_that_the_vendors_samples_obey(finished):
    _, done = finished
    assert done.stdout.startswith(" ---- Stats ----\nInferenceCnt ")
    for line in [*SAMPLES.splitlines(keepends=True), STATISTICS.search(done.stdout)[0]]:
        count, duration_us, batch, rate = statistics(line)
        assert f"{count * 1e6 / duration_us * batch:.3f}" == f"{rate:.3f}"
    assert statistics(done.stdout)[1] >= 20_000_000
    assert done.stdout.count("Writing file:out/aic-profiling-program-") == 3


def test_the_latency_files(finished):
    compiled, done = finished
    count, _, _, rate = statistics(done.stdout)
    files = [f"aic-profiling-program-{k}-latency.txt" for k in (1, 2, 3)]
    assert compiled.latency_files() == files
    rows = [row for name in files for row in compiled.rows(name)]
    # One row an inference, however it divides among the instances.
    assert len(rows) == count
    assert list(rows[0]) == ["Sample", "queueDepth", "numInfInQueue", *DEVICE, *TIMES]
    for row in rows[:50]:
        assert {row[name] for name in DEVICE} == {"N/A"}
        assert all(re.fullmatch(r"\d+" if name in WHOLE else r"\d+\.\d+", row[name]) for name in TIMES)
        assert float(row["hostRoundTripUs"]) <= float(row["execTotalUs"]) < float(row["totalRoundtripTimeUs"])
    law_us = 3 * 2 * 4 / rate * 1e6
    total_us = np.array([float(row["totalRoundtripTimeUs"]) for row in rows])
    assert total_us.mean() == pytest.approx(law_us, rel=0.02)
    assert 1.0 < np.percentile(total_us, 95) / law_us < 1.15
    assert all("EMULATED" in (compiled.folder / "out" / name).read_text().splitlines()[0] for name in files)


def test_the_same_calls_give_the_same_numbers_anywhere_and_repeats_differ(tmp_path):
    seen = []
    for name in ("here", "there"):
        desk = make_desk(tmp_path / name)
        desk.compile()
        seen.append([statistics(desk.run(**{"--aic-profiling-type": None}).stdout) for _ in range(2)])
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]


def test_the_output_is_what_onnx_runtime_gives_rounded_to_half(finished):
    compiled, _ = finished
    expected = compiled.fp32()
    assert np.array_equal(compiled.output(), expected.astype(np.float16).astype(np.float32))
    names = {path.name for path in (compiled.folder / "out").glob("*.bin")}
    assert names == {f"output-activation-{a}-inf-0.bin" for a in range(3)}


def test_profiling_options_choose_the_rows(compiled):
    count, *_ = statistics(
        compiled.run(**{"-n": 50, "--time": None, "--aic-profiling-num-samples": 20}).stdout
    )
    assert (count, len(compiled.rows())) == (150, 20)
    again = compiled.run("--aic-profiling-start-iter", "45", **{"-n": 50, "--time": None})
    assert "Deleting previous file: out/aic-profiling-program-1-latency.txt\n" in again.stdout
    assert [row["Sample"] for row in compiled.rows()] == ["45", "46", "47", "48", "49"]


def test_the_batch_of_the_statistics_is_the_compilers_flag(desk):
    desk.compile(stats_batchsize=None)
    _, _, batch, rate = statistics(desk.run().stdout)
    desk.compile(aic_binary_dir="right")
    assert batch == 1
    assert statistics(desk.run(**{"-t": "right"}).stdout)[3] == pytest.approx(4 * rate, rel=0.02)


def test_the_oldest_style_numbers_from_0_and_takes_raw_files_only(tmp_path):
    desk = make_desk(tmp_path / "desk", style="1.10")
    desk.compile()
    refused = desk.run()
    assert refused.returncode == 255
    assert "Invalid option --aic-batch-json-input. " in refused.stderr
    assert desk.run(**{"--aic-batch-json-input": None, "-i": "input.raw"}).returncode == 0
    assert desk.latency_files() == [f"aic-profiling-program-{k}-latency.txt" for k in (0, 1, 2)]
    # What stands third from the end is the round trip here, and another column in the newest style.
    assert list(desk.rows("aic-profiling-program-0-latency.txt")[0])[-3:] == [
        "totalRoundtripTimeUs",
        "queueDepth",
        "numInfInQueue",
    ]
    assert np.array_equal(desk.output(), desk.fp32().astype(np.float16).astype(np.float32))


def test_without_inputs_it_takes_random_ones_and_says_so(compiled):
    done = compiled.run(**{"--aic-batch-json-input": None})
    assert done.stdout.startswith("Using bounded random inputs\n ---- Stats ----\n")
    assert len(compiled.output()) == 4 * CLASSES


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"-t": None}, 1, "Error: Missing test data path"),
        ({"-t": "absent"}, 1, "Program creation failed"),
        ({"-t": "."}, 1, "Program creation failed"),
        ({"-d": 5}, 1, "Invalid device:5"),
        ({"-a": 8}, 1, "Device 0 activate failed: Memory resource exhausted"),
        ({"-a": 9, "-d": 1}, 1, "Device 1 activate failed: Memory resource exhausted"),
        ({"-a": 0}, 255, "outside 1.."),
        ({"-n": 5}, 1, "one of --time and -n"),
        ({"-i": "input.raw"}, 1, "one of --aic-batch-json-input and -i"),
        (
            {"-T": 4, "--bogus": 1},
            255,
            "Invalid option --bogus. Use -h, -help, or --help for list of options.",
        ),
        ({"-D": 0}, 99, "-D is not emulated"),
        ({"--a": 1}, 255, "Invalid option --a. "),
        ({"--aic-profiling-out-dir": "absent"}, 1, "No such file or directory"),
        ({"-write-output-dir": "input.raw"}, 1, "Not a directory"),
        ({"--aic-profiling-type": "latencies"}, 255, "is none of"),
        ({"--aic-profiling-type": "latency_stream"}, 99, "not emulated"),
    ],
    ids=str,
)
def test_bad_calls_are_refused_and_write_nothing(compiled, changes, code, text):
    done = compiled.run(**changes)
    assert done.returncode == code, done.stdout
    assert text in done.stderr
    assert "InferenceCnt" not in done.stdout
    assert list((compiled.folder / "out").iterdir()) == []


def test_long_options_take_one_dash_and_an_equals_sign(compiled):
    argv = [word.replace("--", "-") for word in compiled.run_argv(**{"-d": None, "-a": None, "--time": None})]
    done = compiled.call(
        compiled.sdk.runner, *argv, "-aic-device-id=1", "--aic-num-of-activations", 8, "-time=5"
    )
    assert done.returncode == 0, done.stderr
    assert len(compiled.latency_files()) == 8


@pytest.mark.parametrize(
    "change",
    [{"dims": [1, *SHAPE]}, {"path": "../desk/absent.raw"}, {"map-to": "pixel_values"}, {"io-direction": "out"},
     {"elem-size": 2}, {"dtype": "float"}],
    ids=str,
)  # fmt: skip
def test_the_input_list_is_read_strictly(compiled, change):
    content = json.loads((compiled.folder / "io.json").read_text())
    content["IO-files"][0][0].update(change)
    (compiled.folder / "io.json").write_text(json.dumps(content))
    done = compiled.run()
    assert (done.returncode, "InferenceCnt" in done.stdout) == (1, False)


def test_inputs_lie_beside_the_list_and_have_its_size(compiled):
    lists = compiled.folder / "inputFiles"
    lists.mkdir()
    (compiled.folder / "io.json").rename(lists / "io.json")
    assert compiled.run(**{"--aic-batch-json-input": "inputFiles/io.json"}).returncode == 1
    data = (compiled.folder / "input.raw").read_bytes()
    (lists / "input.raw").write_bytes(data[:-4])
    done = compiled.run(**{"--aic-batch-json-input": "inputFiles/io.json"})
    assert f"has {len(data) - 4} bytes" in done.stderr
    (lists / "input.raw").write_bytes(data)
    assert compiled.run(**{"--aic-batch-json-input": "inputFiles/io.json"}).returncode == 0


def test_statistics_compiled_in_add_a_block_and_device_columns(desk):
    desk.compile("-stats-level=40")
    done = desk.run()
    assert "\nDevice Performance: \nMetric,          Avg, " in done.stdout
    assert float(desk.rows()[0]["devExecUs"]) > 0


@pytest.mark.parametrize("status", ["Error", "Initializing"])
def test_a_card_that_is_not_ready_runs_nothing(compiled, status):
    compiled.sdk.set_cards([Card(status=status)])
    done = compiled.run()
    assert done.returncode == 1
    assert "Device:0 not in ready state" in done.stderr


def slow_run(desk, *argv):
    return subprocess.Popen(
        [str(desk.sdk.runner), *argv], cwd=desk.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"AICSWEEP_EMULATED_SPEED": "0.001"}, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_holds_its_nsps_until_it_ends_however_it_ends(compiled, ending):
    first = slow_run(compiled, *compiled.run_argv(**{"-a": 5}))
    until(lambda: compiled.fields()["Nsp Free"] == "4")
    assert compiled.fields()["Networks Active"] == "1"
    second = compiled.run()
    assert second.returncode == 1
    assert "Device 0 activate failed: Memory resource exhausted" in second.stderr
    assert compiled.run(**{"-a": 2}).returncode == 0
    assert compiled.run(**{"-d": 1}).returncode == 0
    first.send_signal(ending)
    assert first.wait() == -ending
    assert compiled.fields()["Nsp Free"] == "14"
    assert compiled.sdk.calls("qaic-runner")[0].exit_code is None


def test_somebody_elses_nsps_are_not_to_be_had(compiled):
    compiled.sdk.set_cards([Card(busy_nsps=9)])
    assert compiled.run().returncode == 1
    assert compiled.run(**{"-a": 2}).returncode == 0


@pytest.mark.parametrize("tool", ["compile", "runner", "util"])
def test_a_stubborn_hang_leaves_a_child_and_both_ignore_sigterm(compiled, tool):
    sdk = compiled.sdk
    sdk.set_faults([Fault(tool, "stubborn-hang")])
    argv = {
        "compile": [sdk.compiler, *compiled.compile_argv(aic_binary_dir="other")],
        "runner": [sdk.runner, *compiled.run_argv()],
        "util": [sdk.util, "-q"],
    }[tool]
    hung = subprocess.Popen([str(word) for word in argv], cwd=compiled.folder, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)  # fmt: skip
    call = until(lambda: [call for call in sdk.calls() if call.children])[0]
    pids = [hung.pid, *call.children]
    assert sdk.alive() == pids
    for pid in pids:
        (ignored,) = re.findall(r"SigIgn:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
        assert int(ignored, 16) >> (signal.SIGTERM - 1) & 1
    hung.kill()
    hung.wait()
    sdk.set_faults([])
    # The child lives on, and holds what the runner held.
    assert compiled.fields()["Nsp Free"] == ("8" if tool == "runner" else "14")
    sdk.end_all()
    until(lambda: not sdk.alive())
    assert compiled.fields()["Nsp Free"] == "14"


def test_a_plain_hang_ends_by_sigterm(compiled):
    compiled.sdk.set_faults([Fault("runner", "hang")])
    hung = slow_run(compiled, *compiled.run_argv())
    until(lambda: compiled.fields()["Nsp Free"] == "8")
    hung.terminate()
    assert hung.wait() == -signal.SIGTERM
    assert compiled.sdk.alive() == []
