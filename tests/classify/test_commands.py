"""The commands file, pasted into a shell in the model's directory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import emulated_sdk
from tests.classify.conftest import STYLES, Call, Install

STATISTICS = re.compile(r"^InferenceCnt .* Inf/Sec .*$", re.M)


def paste(sdk: emulated_sdk.Sdk, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Feed `text` to a shell, as a terminal does. The emulator's runs differ by noise that belongs to their
    number: it counts anew."""
    (sdk.root / "EMULATED" / "counters.json").unlink()
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["bash", "--norc"], input=text, cwd=folder, env=plain, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("style", STYLES)
def test_pasted_commands_give_the_same_result_line(
    style: str, start: Path, install: Install, call: Call
) -> None:
    sdk = install(style)
    ended = call(
        "-m", "resnet-50", "-o", "best-latency", "--extra= -sdp-cluster-sizes=7,7  '-multicast-weights'"
    )
    assert ended.code == 0
    (path,) = start.glob("resnet-50/commands-*.txt")
    text = path.read_text()
    removal, compile_, run = text.removesuffix("\n\n").split("\n\n")
    assert removal == "/bin/rm -rf ./compiled-bin-fp16-B1-C14-A1-OLS1-MOS1,7-best-latency"
    assert compile_.startswith(f"{sdk.compiler} -m=./model/model.onnx ")
    assert compile_.endswith("-sdp-cluster-sizes=7,7 -multicast-weights -mos=1,7")
    assert run.startswith(f"{sdk.runner} -t ./compiled-bin-fp16-")
    before = sdk.calls()
    pasted = paste(sdk, path.parent, text)
    assert STATISTICS.findall(pasted.stdout) == STATISTICS.findall(ended.out)
    again = [(one.tool, list(one.argv), one.cwd) for one in sdk.calls()[len(before) :]]
    assert again == [(one.tool, list(one.argv), one.cwd) for one in before if one.tool != "qaic-util"]


def test_whatever_a_shell_would_read_otherwise_is_quoted(
    start: Path, sdk: emulated_sdk.Sdk, call: Call
) -> None:
    # Refused by the compiler, but the commands are there to look at.
    ended = call("-m", "alexnet", """--extra="-a=$HOME" '-b=*;x'""")
    assert ended.code == 1
    (path,) = start.glob("alexnet/commands-*.txt")
    _, compile_ = path.read_text().removesuffix("\n\n").split("\n\n")
    assert compile_.endswith("""'-a=$HOME' '-b=*;x' -mos=1""")
    assert [one.argv[-3:-1] for one in sdk.calls("qaic-compile")] == [["-a=$HOME", "-b=*;x"]]


def test_run_only_appends_a_runner_call(start: Path, sdk: emulated_sdk.Sdk, call: Call) -> None:
    assert call("-m", "alexnet").code == 0
    (path,) = start.glob("alexnet/commands-*.txt")
    first = path.read_text()
    assert call("-m", "alexnet", "-r", "--time", "3").code == 0
    added = path.read_text().removeprefix(first)
    assert added == first.split("\n\n")[2].replace("--time 20", "--time 3") + "\n\n"
    # Written anew by whoever compiles.
    assert call("-m", "alexnet").code == 0
    assert path.read_text() == first
