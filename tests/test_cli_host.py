"""`aicsweep devices` and `aicsweep doctor` as commands: output and exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.backends.qaic import bench, locks
from runner.cli import cli
from runner.errors import BadInput, Infrastructure
from tests.emulated_sdk import Card, Sdk, install


@pytest.fixture
def emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sdk:
    monkeypatch.setenv("AICSWEEP_LOCKS", str(tmp_path / "locks"))
    return install(tmp_path / "sdk", cards=[Card(serial="A"), Card(status="Error"), Card(busy_nsps=4)])


def test_devices_as_a_table(emulated: Sdk) -> None:
    with locks.held(bench.lock_name("A"), "card 0", limit_s=0):
        done = CliRunner().invoke(cli, ["devices", "--sdk", str(emulated.root)])
    assert done.exit_code == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert ["0", "A", "PCIe", "Ready", "14/14", "38", "18", "1.21.12", str(os.getpid())] in lines
    assert any(line[:1] == ["1"] and "Error" in line and "?/?" in line for line in lines)
    assert any("10/14" in line for line in lines)


def test_devices_as_json(emulated: Sdk) -> None:
    done = CliRunner().invoke(cli, ["devices", "--sdk", str(emulated.root), "-o", "json"])
    first, failing, _ = json.loads(done.output)
    assert (first["qid"], first["nsps_free"], first["temperature_c"], first["locked_by_pid"]) == (
        0, 14, 38.0, None,
    )  # fmt: skip
    assert (failing["status"], failing["nsps_total"]) == ("Error", None)


def test_devices_without_an_sdk_is_the_hosts_fault(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["devices", "--sdk", str(tmp_path)])
    assert isinstance(done.exception, Infrastructure)
    assert done.exception.exit_code == 3


def test_doctor_ends_with_3_if_something_is_broken(emulated: Sdk, tmp_path: Path) -> None:
    well = CliRunner().invoke(cli, ["doctor", "--sdk", str(emulated.root)])
    assert "ok   SDK" in well.output
    assert "warn card 1" in well.output
    assert well.exit_code == (3 if "BAD" in well.output else 0)
    (tmp_path / "file").touch()
    ill = CliRunner().invoke(cli, ["doctor", "--store", str(tmp_path / "file" / "x")])
    assert ill.exit_code == 3
    assert "BAD  store" in ill.output
    assert "-> " in ill.output


def test_doctor_asked_for_one_check_says_nothing_of_the_others(tmp_path: Path) -> None:
    """The chart's test has the SDK but no device."""
    bare = install(tmp_path / "sdk", cards=[])
    told = ["doctor", "--sdk", str(bare.root), "--store", str(tmp_path / "store")]
    assert CliRunner().invoke(cli, told).exit_code == 3
    done = CliRunner().invoke(cli, [*told, "--only", "store"])
    assert (done.exit_code, len(done.output.splitlines())) == (0, 1)
    assert isinstance(CliRunner().invoke(cli, [*told, "--only", "stroe"]).exception, BadInput)
