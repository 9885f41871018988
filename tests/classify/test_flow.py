"""Whole calls on emulated SDKs: the tools' command lines, the directory, and the printed lines."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import emulated_sdk
from tests.classify.conftest import STYLES, Call, Install, SmallExporter

STATISTICS = re.compile(
    r"^InferenceCnt (\d+) TotalDuration (\d+)us BatchSize (\d+) Inf/Sec (\d+\.\d{3})$", re.M
)
LATENCY = re.compile(r"^Latency \(95pct\) = (\d+\.\d{3}) ms$", re.M)
SDP_FLAGS = ["-sdp-cluster-sizes=7,7", "-multicast-weights", "-use-producer-dma=1"]
# Arguments, and what they and the look-up table say: batch, cores, instances, ols, mos, set size, extra flags.
EXAMPLES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "-m resnet-50":
        ("resnet-50", (14, 14, 1, 1, "1,1", 3, SDP_FLAGS)),
    "-m resnet-152 -o best-throughput":
        ("resnet-152", (14, 14, 1, 2, "1,1", 4, SDP_FLAGS)),
    "-m resnet-50 -o best-latency":
        ("resnet-50", (1, 14, 1, 1, "1,7", 3, SDP_FLAGS)),
    "-m vit-base-patch16-224 -o best-latency":
        ("vit-base-patch16-224", (1, 12, 1, 1, "12", 2, ["-multicast-weights"])),
    "-m vit_b_16 -o balanced": ("vit_b_16", (1, 2, 7, 1, "", 10, [])),
    "-m resnet50 -c 4": ("resnet50", (13, 4, 2, 2, "1", 3, ["-multicast-weights"])),
    "-m resnet50 -o best-latency --extra=-multicast-weights --mos= --time 7 -i 1":
        ("resnet50", (1, 12, 1, 1, "", 1, ["-multicast-weights"])),
}  # fmt: skip


def demanded(
    sdk: emulated_sdk.Sdk, style: str, facts: tuple[Any, ...], motif: str, seconds: str
) -> list[list[str]]:
    """Query, compile, query (the gate), run, query: as the vendor's script calls the tools, without sudo."""
    batch, cores, instances, ols, mos, set_size, extra = facts
    old = style != "1.21"
    out, shape = f"./outputFiles/fp16-{motif}", f"{batch}x3x224x224"
    query = [str(sdk.util), "-d", "0", "-q"]
    compile_ = [
        str(sdk.compiler), "-m=./model/model.onnx", f"-onnx-define-symbol=batch_size,{batch}", "-aic-hw",
        f"-aic-hw-version={'2.0' if old else 'ai100'}", f"-aic-num-cores={cores}", f"-ols={ols}",
        "-convert-to-fp16", *(["-compile-only"] if old else []),
        f"-aic-binary-dir=./compiled-bin-fp16-{motif}", f"-stats-batchsize={batch}", *extra,
        *([f"-mos={mos}"] if mos else []),
    ]  # fmt: skip
    fed = (
        ["-i", f"./inputFiles/input_img_{shape}.raw"]
        if style == "1.10"
        else ["--aic-batch-json-input", "./inputFiles/aic_batch_io.json"]
    )
    run = [
        str(sdk.runner), "-t", f"./compiled-bin-fp16-{motif}", "-a", str(instances), "--time", seconds,
        "--aic-profiling-type", "latency", "--aic-profiling-num-samples", "999999",
        "--aic-profiling-out-dir", out, "-write-output-dir", out, "-S", str(set_size), "-d", "0", *fed,
    ]  # fmt: skip
    return [[str(sdk.util), "-q"], compile_, query, run, query]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_calls_the_tools_as_the_vendors_script_does(
    example: str, style: str, start: Path, install: Install, call: Call
) -> None:
    sdk = install(style)
    model, facts = EXAMPLES[example]
    batch, cores, instances, ols, mos, *_ = facts
    ended = call(*example.split())
    assert (ended.code, ended.last.startswith("run_cv_classifier:")) == (0, False), ended.err
    objective = example.split("-o ")[1].split()[0] if "-o " in example else "best-throughput"
    motif = f"B{batch}-C{cores}-A{instances}-OLS{ols}{f'-MOS{mos}' if mos else ''}-{objective}"
    seconds = "7" if "--time" in example else "20"
    calls = sdk.calls()
    assert [[_path(sdk, one.tool), *one.argv] for one in calls] == demanded(sdk, style, facts, motif, seconds)
    home = start / model
    assert {one.cwd for one in calls if one.tool != "qaic-util"} == {str(home)}

    # The directory: the vendor's files, and our records and logs.
    shape = f"{batch}x3x224x224"
    first = 0 if style == "1.10" else 1
    assert _listing(home) == sorted([
        "model/model.onnx", "model/export.json",
        f"inputFiles/input_img_{shape}.raw", "inputFiles/aic_batch_io.json",
        *(f"outputFiles/fp16-{motif}/aic-profiling-program-{first + k}-latency.txt" for k in range(instances)),
        *(f"outputFiles/fp16-{motif}/output-activation-{k}-inf-0.bin" for k in range(instances)),
        f"compiled-bin-fp16-{motif}/programqpc.bin", f"compiled-bin-fp16-{motif}/constants.bin",
        f"list_{shape}.txt", f"commands-{motif}.txt", f"parameters-{motif}.json",
        f"compile-{motif}.log", f"run-{motif}.log",
    ])  # fmt: skip
    assert (home / f"list_{shape}.txt").read_text() == f"./inputFiles/input_img_{shape}.raw"
    pixels = np.fromfile(home / "inputFiles" / f"input_img_{shape}.raw", "<f4")
    assert len(pixels) == batch * 3 * 224 * 224
    assert (abs(pixels.mean()), pixels.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    assert json.loads((home / "inputFiles" / "aic_batch_io.json").read_text()) == {
        "IO-files": [[{
            "path": f"input_img_{shape}.raw", "io-direction": "in", "elem-size": 4, "map-to": "input",
            "dims": [batch, 3, 224, 224],
        }]]
    }  # fmt: skip

    # The lines that parsers of the vendor's output read, in this order, once each.
    (statistics,), (latency,) = STATISTICS.finditer(ended.out), LATENCY.finditer(ended.out)
    assert statistics.end() < latency.start()
    assert int(statistics[3]) == batch
    assert ended.out.count("Inf/Sec") == ended.out.count("Latency") == 1
    assert latency[1] == f"{_p95_ms(home / f'outputFiles/fp16-{motif}'):.3f}"
    assert "largest absolute difference" in ended.out[latency.end() :]
    assert sdk.alive() == []


def _path(sdk: emulated_sdk.Sdk, tool: str) -> str:
    return str(next(path for path in (sdk.compiler, sdk.runner, sdk.util) if path.name == tool))


def _listing(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def _p95_ms(folder: Path) -> float:
    """As a parser of the files would have it: by column, over all instances."""
    rows: list[float] = []
    for path in folder.glob("*latency.txt"):
        header, *lines = path.read_text().splitlines()[4:]
        column = [name.strip() for name in header.split(",")].index("totalRoundtripTimeUs")
        rows += [float(line.split(",")[column]) for line in lines]
    return float(np.percentile(rows, 95)) / 1000


def test_the_comparison_shows_both_runs(start: Path, sdk: emulated_sdk.Sdk, call: Call) -> None:
    out = call("-m", "alexnet", "-o", "best-latency").out
    lines = [line for line in out.splitlines() if line.startswith("output, ")]
    card, reference = ([float(word) for word in line.split()[-4:]] for line in lines[:2])
    assert lines[0].startswith("output, card 0 ")
    assert lines[1].startswith("output, ONNX Runtime fp32 ")
    (path,) = start.glob("alexnet/outputFiles/*/output-activation-0-inf-0.bin")
    assert card == pytest.approx(np.fromfile(path, "<f4")[:4].tolist(), abs=1e-6)
    assert reference == pytest.approx(card, abs=0.01)
    assert 0 < float(lines[2].split()[-1]) < 0.01


def test_outputs_of_an_earlier_run_are_gone(start: Path, sdk: emulated_sdk.Sdk, call: Call) -> None:
    argv = ["-m", "alexnet", "-c", "2", "-i", "2"]
    assert call(*argv).code == 0
    (folder,) = start.glob("alexnet/outputFiles/*")
    (folder / "aic-profiling-program-9-latency.txt").write_text("stale")
    assert call(*argv).code == 0
    assert not (folder / "aic-profiling-program-9-latency.txt").exists()
    (folder / "stale").touch()
    sdk.set_faults([emulated_sdk.Fault("compile", "no-binary")])
    assert call(*argv).code == 1
    assert list(folder.iterdir()) == []


def test_what_is_recorded_beside_the_artefacts(
    start: Path, sdk: emulated_sdk.Sdk, call: Call, exporter: SmallExporter
) -> None:
    assert call("-m", "alexnet", "--opset", "14", "-s", "100", "-d", "0", "--timeout", "99").code == 0
    (path,) = start.glob("alexnet/parameters-*.json")
    record = json.loads(path.read_text())
    assert {name: record[name] for name in ("opset", "image_size", "set_size", "extra", "time_s", "device")} == {
        "opset": 14, "image_size": 100, "set_size": 2, "time_s": 20, "device": 0,
        "extra": "-aic-enable-depth-first -aic-depth-first-mem=32",
    }  # fmt: skip
    assert record["compiler"] == "qaic-compile-1.21.12"
    (request,) = exporter.requests
    assert (request.source, request.weights, request.opset, request.image_size) == (
        "torchvision:alexnet", "pretrained", 14, 100
    )  # fmt: skip
    assert exporter.limits_s == [99]


def test_the_look_up_table_of_the_start_directory_and_a_named_one(
    start: Path, sdk: emulated_sdk.Sdk, call: Call, tmp_path: Path
) -> None:
    head = "MODEL_NAME,BATCH_SIZE,IMAGE_SIZE,CORES,INSTANCES,OLS,MOS,EXTRA,SET_SIZE,PRECISION,OBJECTIVE\n"
    (start / "lut_cv_classifiers.csv").write_text(f"{head}alexnet,3,100,5,2,,,,1,fp16,balanced\n")
    named = tmp_path / "named.csv"
    named.write_text(f"{head}alexnet,,,3,3,,,,1,fp16,balanced\n")
    assert call("-m", "alexnet", "-o", "balanced").code == 0
    assert (start / "alexnet" / "commands-B3-C5-A2-OLS1-balanced.txt").exists()
    assert (start / "alexnet" / "list_3x3x100x100.txt").exists()
    # No fall-back to another objective's row, nor to the shipped table's.
    assert call("-m", "alexnet").code == 0
    assert (start / "alexnet" / "commands-B14-C2-A7-OLS1-best-throughput.txt").exists()
    assert call("-m", "alexnet", "-o", "balanced", "--lut", str(named)).code == 0
    assert (start / "alexnet" / "commands-B1-C3-A3-OLS1-balanced.txt").exists()


def test_an_unreadable_table_is_an_error_if_it_was_named_and_a_warning_if_not(
    start: Path, sdk: emulated_sdk.Sdk, call: Call
) -> None:
    (start / "lut_cv_classifiers.csv").write_text(
        "MODEL_NAME,OBJECTIVE,PRECISION,CORES\nalexnet,balanced,fp16,x\n"
    )
    ended = call("-m", "alexnet", "-o", "best-latency")
    assert ended.code == 0
    assert "CORES is 'x'" in ended.err
    assert "that ships with aicsweep is used" in ended.err
    for path in ("lut_cv_classifiers.csv", "missing.csv", "."):
        ended = call("-m", "alexnet", "--lut", path)
        assert (ended.code, "bad input" in ended.last) == (2, True)


def test_a_second_call_in_the_directory_is_refused(start: Path, sdk: emulated_sdk.Sdk, call: Call) -> None:
    (start / "alexnet").mkdir()
    descriptor = os.open(start / "alexnet", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    ended = call("-m", "alexnet")
    assert (ended.code, "another run_cv_classifier works in" in ended.last) == (3, True)
    os.close(descriptor)
    assert call("-m", "alexnet").code == 0
