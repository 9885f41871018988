"""The backend as the engine sees it: devices, compile, benches, provenance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from runner.backends import Device, qaic
from runner.backends.qaic import locks, sdk
from runner.errors import BadInput, Infrastructure
from tests.backends.qaic.networks import cell
from tests.emulated_sdk import Card, Sdk


def test_all_devices_are_those_that_are_ready(emulated: Sdk) -> None:
    emulated.set_cards([Card(serial="A"), Card(status="Error"), Card(serial="C", qid=6)])
    assert qaic.devices("all") == [Device("0", "A"), Device("6", "C")]
    assert [device.id for device in qaic.devices("1,6")] == ["1", "6"]


def test_a_device_that_is_not_there_is_the_users_mistake(emulated: Sdk) -> None:
    with pytest.raises(BadInput, match="no device '3' here"):
        qaic.devices("0,3")


@pytest.mark.parametrize("cards", [[], [Card(status="Error"), Card(status="Initializing")]])
def test_no_device_is_the_hosts_fault(emulated: Sdk, cards: list[Card]) -> None:
    emulated.set_cards(cards)
    with pytest.raises(Infrastructure) as caught:
        qaic.devices("all")
    assert caught.value.reason == "no-device"


def test_no_sdk_says_so_wherever_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AICSWEEP_SDK", raising=False)
    monkeypatch.setattr(sdk, "DEFAULT_ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = (
        lambda: qaic.devices("all"), qaic.compiler_version, qaic.provenance,
        lambda: qaic.compile(cell(), tmp_path, tmp_path), lambda: qaic.open_bench(Device("0", "A")).__enter__(),
    )  # fmt: skip
    for ask in asked:
        with pytest.raises(Infrastructure, match="no Cloud AI SDK here"):
            ask()


def test_programs_compile_side_by_side_with_their_log_and_call(
    emulated: Sdk, graph: Path, tmp_path: Path
) -> None:
    points = [cell(cores=cores) for cores in (1, 2)]
    folders = [tmp_path / str(point.cores) for point in points]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(qaic.compile, points, [graph, graph], folders))
    for point, folder in zip(points, folders, strict=True):
        assert (folder / "programqpc.bin").stat().st_size > 0
        assert "Compile started" in (folder / "compile.log").read_text()
        call = orjson.loads((folder / "compile.json").read_bytes())
        assert call["compiler"] == qaic.compiler_version() == "qaic-compile-1.21.12"
        assert f"-aic-num-cores={point.cores}" in call["argv"]
        assert sorted(path.name for path in folder.iterdir()) == [
            "compile.json", "compile.log", "constants.bin", "programqpc.bin",
        ]  # fmt: skip


def test_a_host_that_measures_needs_no_compiler_and_one_that_compiles_no_runner(
    emulated: Sdk, graph: Path, tmp_path: Path
) -> None:
    compiler = emulated.compiler.read_bytes()
    emulated.compiler.unlink()
    (device,) = qaic.devices("all")
    with qaic.open_bench(device):
        pass
    emulated.compiler.write_bytes(compiler)
    emulated.compiler.chmod(0o755)
    emulated.runner.unlink()
    emulated.util.unlink()
    qaic.compile(cell(), graph, tmp_path)
    with pytest.raises(Infrastructure, match="Platform SDK"):
        qaic.devices("all")


def test_a_bench_keeps_others_off_its_card(emulated: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.backends.qaic import bench

    monkeypatch.setattr(bench, "LOCK_S", 0.0)
    (device,) = qaic.devices("all")
    with qaic.open_bench(device):
        assert locks.holder(bench.lock_name(device.target))
        with pytest.raises(Infrastructure, match="card 0 is in use"), qaic.open_bench(device):
            pass
    with qaic.open_bench(device):
        pass


def test_no_temporary_folder_is_the_hosts_fault(
    emulated: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(Infrastructure, match="can't be written") as caught, qaic.open_bench(Device("0", "A")):
        pass
    assert caught.value.reason == "disk"


def test_provenance_says_what_is_unknown(emulated: Sdk) -> None:
    assert qaic.provenance()["sdk_apps"] == qaic.provenance()["sdk_platform"] == "1.21.12"
    (emulated.root / "versions" / "platform.xml").unlink()
    assert qaic.provenance()["sdk_platform"] == "unknown"
