"""What qaic-util says, in every form seen, as cards; and what an answer that is none means."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.backends.qaic import device, sdk
from runner.errors import Infrastructure
from tests.emulated_sdk import Card, Fault, Sdk, install

PRO_OLD = """\
LRT QC_IMAGE_VERSION: LRT.AIC.5.2.1.5.6
Number of devices: 8
QID 0
\tStatus:Ready
\tPCI Address:0000:01:00.0
\tPCI Info:Processing accelerators Qualcomm Device a100
\tHW Serial:0x64b5276b
\tFW Version:1.5.6
\tDram Total:32692 MB
\tDram Free:32692 MB
\tNsp Total:16
\tNsp Free:16
\tNSP Defective PG Mask: 0x0
\tBoard serial:PN471-12-343016
QID 1
\tStatus:Initializing
"""
FAILING = """\
[15:58:55.536][error][LogCommon][openDevice:#68] Failed to open device /dev/qaic_aic100_0
[error][QKmdDeviceFactory][getDevice:#117] Failed to open() device. QID 0
QID 0
\tStatus:Error
\tMHI ID:0
\tPCI Address:0002:01:00.0
[error] a line of its log in between
\tSoC temperature(degree C):28.00
\tBoard power(Watts):5.00
"""


def test_an_old_sdk_names_no_sku_and_no_temperature() -> None:
    card, booting = device.parse(PRO_OLD)
    assert (card.qid, card.ready, card.nsp_total, card.nsp_free, card.in_use) == (0, True, 16, 16, False)
    assert (card.sku, card.temperature_c, card.power_w) == ("", None, None)
    assert (card.serial, card.firmware) == ("PN471-12-343016", "1.5.6")
    assert card.dram_total_bytes == 32692 * 2**20
    assert card.fields["PCI Address"] == "0000:01:00.0"
    assert card.raw.startswith("QID 0\n\tStatus:Ready")
    assert (booting.qid, booting.status, booting.in_use) == (1, "Initializing", None)
    assert "QID 1" not in card.raw


def test_a_failing_card_has_no_resources_and_they_are_unknown() -> None:
    (card,) = device.parse(FAILING)
    assert (card.status, card.ready, card.nsp_total, card.in_use) == ("Error", False, None, None)
    assert (card.temperature_c, card.power_w) == (28.0, 5.0)
    assert "[error] a line of its log in between" in card.raw


@pytest.mark.parametrize(
    ("text", "value"),
    [("33554432 KB", 2**35), ("32768 MB", 2**35), ("32 GB", 2**35), ("much", None), ("nan MB", None)],
)
def test_memory_has_its_unit_and_what_is_no_number_is_unknown(text: str, value: int | None) -> None:
    (card,) = device.parse(f"QID 3\n\tDram Total:{text}\n\tSoC temperature(degree C):{text}\n")
    assert card.dram_total_bytes == value


def test_a_network_at_work_is_use_whatever_the_nsps_say() -> None:
    (card,) = device.parse("QID 0\n\tNsp Total:14\n\tNsp Free:14\n\tNetworks Active:1\n")
    assert card.in_use


def test_each_soc_of_an_ultra_card_has_a_name_of_its_own() -> None:
    text = "QID 0\n\tBoard serial:U1\n\tHW Serial:0x1\n\tSku Type:PCIe Ultra\n"
    (card,) = device.parse(text)
    assert card.serial == "U1:0x1"
    (single,) = device.parse(text.replace(" Ultra", " Pro"))
    assert single.serial == "U1"
    (unnamed,) = device.parse("QID 7\n\tStatus:Ready\n")
    assert unnamed.serial.endswith("-qid7")


@pytest.mark.parametrize("text", ["", "\x00\x01garbage\n\tStatus\nQID zero\n\tNsp Total:many"])
def test_no_answer_is_no_card(text: str) -> None:
    assert device.parse(text) == []


@pytest.mark.parametrize("style", ["1.10", "1.19", "1.21"])
def test_each_sdk_is_read(tmp_path: Path, style: str) -> None:
    emulated = install(tmp_path / "sdk", style=style, cards=[Card(), Card(qid=4, busy_nsps=3)])
    first, second = device.query(sdk.find(emulated.root))
    assert (first.qid, first.serial, first.in_use, first.nsp_total) == (0, "EMUL-0000", False, 14)
    assert (second.qid, second.use) == (4, "3 of 14 NSPs in use")
    assert first.dram_total_bytes == 2**34
    assert (first.temperature_c, first.sku) == ((None, "") if style == "1.10" else (38.0, "PCIe"))
    (alone,) = device.query(sdk.find(emulated.root), [4])
    assert alone.qid == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [("fail", "Failed to get Runtime Platform"), ("garbage", "found no card")],
)
def test_a_query_without_an_answer_is_the_hosts_fault(emulated: Sdk, fault: str, said: str) -> None:
    emulated.set_faults([Fault("util", fault)])
    if fault == "garbage":
        emulated.set_cards([])
    with pytest.raises(Infrastructure, match=said) as caught:
        device.query(sdk.find(emulated.root))
    assert caught.value.reason == "no-device"
    assert "group `qaic`" in caught.value.remedy


def test_a_card_that_is_not_there_is_named(emulated: Sdk) -> None:
    with pytest.raises(Infrastructure, match="Device ID: 9"):
        device.query(sdk.find(emulated.root), [9])
