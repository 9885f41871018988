"""What the doctor says of hosts that lack something: the right level, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import doctor
from tests.emulated_sdk import Card, Fault, Sdk, install


@pytest.fixture(autouse=True)
def _own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICSWEEP_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("AICSWEEP_SDK", raising=False)
    monkeypatch.setattr(doctor, "DEVICE_NODES", ((str(tmp_path / "accel"), "accel*"),))
    (tmp_path / "accel").mkdir()
    (tmp_path / "accel" / "accel0").touch()


@pytest.fixture
def emulated(tmp_path: Path) -> Sdk:
    return install(tmp_path / "sdk")


def found(root: Path | None, store: str | None = None) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine(root, store)}


def test_a_host_that_is_well(emulated: Sdk, tmp_path: Path) -> None:
    checks = found(emulated.root, str(tmp_path / "store"))
    well = {"cores", "scratch", "cache", "store", "SDK", "compiler", "runner", "query", "device nodes",
            "card 0", "locks"}  # fmt: skip
    assert {name for name in well if checks[name].level != "ok"} == set()
    assert "Apps 1.21.12, Platform 1.21.12" in checks["SDK"].text
    assert "Ready, PCIe, EMUL-0000, 0 of 14 NSPs in use, 38 degrees C" in checks["card 0"].text


def test_without_an_sdk_cards_cant_be_used_and_the_processor_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.backends.qaic import sdk

    monkeypatch.setattr(sdk, "DEFAULT_ROOT", tmp_path)
    monkeypatch.setenv("PATH", "")
    check = found(None)["SDK"]
    assert check.level == "warn"
    assert "onnxruntime" in check.remedy
    # One that was named is expected to be there.
    assert found(tmp_path / "nowhere")["SDK"].level == "bad"


def test_half_an_sdk(emulated: Sdk) -> None:
    emulated.compiler.unlink()
    emulated.util.unlink()
    (emulated.root / "versions" / "apps.xml").unlink()
    (emulated.root / "versions" / "platform.xml").unlink()
    checks = found(emulated.root)
    assert [checks[name].level for name in ("SDK", "compiler", "runner", "query")] == [
        "warn", "warn", "ok", "warn",
    ]  # fmt: skip
    assert "Apps SDK" in checks["compiler"].remedy
    assert "card 0" not in checks


def test_cards_in_trouble(emulated: Sdk) -> None:
    emulated.set_cards([Card(status="Error"), Card(busy_nsps=3), Card(temperature_c=80.0), Card()])
    checks = found(emulated.root)
    assert [checks[f"card {qid}"].level for qid in range(4)] == ["warn", "warn", "warn", "ok"]
    assert "cards" not in checks
    emulated.set_cards([Card(status="Error")])
    assert found(emulated.root)["cards"].level == "bad"


def test_no_answer_of_the_cards(emulated: Sdk) -> None:
    emulated.set_faults([Fault("util", "fail")])
    check = found(emulated.root)["cards"]
    assert check.level == "bad"
    assert "Failed to get Runtime Platform" in check.text


def test_device_nodes_that_are_not_ours_name_the_group(
    emulated: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may read anything, whatever the mode says.
    denied = str(tmp_path / "accel" / "accel0")
    access = doctor.os.access
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: str(path) != denied and access(path, mode))
    check = found(emulated.root)["device nodes"]
    assert check.level == "bad"
    assert "usermod -a -G qaic" in check.remedy
    (tmp_path / "accel" / "accel0").unlink()
    assert found(emulated.root)["device nodes"].level == "warn"


def test_a_store_that_cant_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = found(None, str(tmp_path / "file" / "store"))["store"]
    assert check.level == "bad"
    assert check.text


def test_full_and_unwritable_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NO_DISK_BYTES", 2**70)
    monkeypatch.setattr(doctor, "LOW_DISK_BYTES", 2**71)
    assert found(None)["scratch"].level == "bad"
    monkeypatch.setattr(doctor, "NO_DISK_BYTES", 0)
    check = found(None)["scratch"]
    assert (check.level, "TMPDIR" in check.remedy) == ("warn", True)


def test_weights_that_are_there_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet50-1.pth").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    texts = [check.text for check in doctor.examine(None, None) if check.name == "weights"]
    assert f"1 model in {checkpoints}" in texts
