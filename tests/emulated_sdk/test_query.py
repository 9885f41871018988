"""The emulated device query against the sample and the field list of the reference."""

import json

import pytest

from tests.emulated_sdk import Card, Fault
from tests.emulated_sdk.desk import make_desk

# A Pro card with SDK 1.5.6, abridged, as krai/ck-qaic published it.
SAMPLE = """\
	Status:Ready
	PCI Address:0000:01:00.0
	PCI Info:Processing accelerators Qualcomm Device a100
	HW Serial:0x64b5276b
	FW Version:1.5.6
	FW IMAGE_VARIANT:AIC100.REL
	NSP Version:1.5.2
	Dram Total:32692 MB
	Dram Free:32692 MB
	Dram Fragmentation:0.00%
	Nsp Total:16
	Nsp Free:16
	NSP Frequency(Mhz):825
	DDR Frequency(Mhz):2133
	NSP Defective PG Mask: 0x0
	Board serial:PN471-12-343016
"""
MADE = ("HW Serial", "FW Version", "NSP Version", "Board serial")


def test_the_oldest_style_prints_the_samples_lines_in_their_order(tmp_path):
    desk = make_desk(tmp_path / "desk", style="1.10", cards=[Card(sku="PCIe Pro", temperature_c=90.0)] * 8)
    head, count, qid, *lines = desk.query().stdout.splitlines()
    assert (head.partition(":")[0], count, qid) == ("LRT QC_IMAGE_VERSION", "Number of devices: 8", "QID 0")
    printed = iter(lines)
    for line in SAMPLE.splitlines():
        key = line.strip().partition(":")[0]
        found = next(printed for printed in printed if printed.startswith(f"\t{key}:"))
        assert found == line or key in MADE
    assert not {"Sku Type", "SoC temperature(degree C)", "Board power(Watts)"} & set(desk.fields())


def test_the_newest_style_tells_sku_and_temperature_and_counts_in_kb(desk):
    text = desk.query("-d", 1).stdout
    assert "Number of devices queried: 1\nQID 1\n\tStatus:Ready\n" in text
    fields = desk.fields(1)
    assert fields["Dram Total"] == "33476608 KB"
    assert list(fields)[-5:] == [
        "Sku Type",
        "Board serial",
        "SoC temperature(degree C)",
        "Board power(Watts)",
        "TDP Cap(Watts)",
    ]
    assert (fields["Sku Type"], fields["Nsp Total"], fields["SoC temperature(degree C)"]) == (
        "PCIe Pro",
        "16",
        "38.00",
    )


@pytest.mark.parametrize("status", ["Error", "Initializing"])
def test_a_card_that_is_not_ready_shows_no_resources(desk, status):
    desk.sdk.set_cards([Card(status=status)])
    fields = desk.fields()
    assert fields["Status"] == status
    assert not {"Nsp Total", "Nsp Free", "Dram Total", "FW Version", "Board serial"} & set(fields)
    assert fields["SoC temperature(degree C)"] == "38.00"
    assert ("Failed to open device" in desk.query().stdout) == (status == "Error")
    assert desk.query().returncode == 0


def test_a_card_changes_with_each_query_of_it(desk):
    desk.sdk.set_cards(
        [Card(busy_nsps=(14, 4, 0), temperature_c=(80.0, 70.0, None)), Card(status=("Initializing", "Ready"))]
    )
    seen = [desk.fields(0) for _ in range(4)]
    assert [f["Nsp Free"] for f in seen] == ["0", "10", "14", "14"]
    assert [f.get("SoC temperature(degree C)") for f in seen] == ["80.00", "70.00", None, None]
    # The other card was not asked meanwhile.
    assert [desk.fields(1)["Status"] for _ in range(2)] == ["Initializing", "Ready"]


def test_json_names_the_known_keys(desk):
    assert desk.query("-d", 0, "-d", 1, "-j", "cards.json").returncode == 0
    content = json.loads((desk.folder / "cards.json").read_text())
    assert "EMULATED" in content
    known = {"qid", "dev_status", "sku_type", "nsp_total", "nsp_free"}
    assert [{k: v for k, v in card.items() if k in known} for card in content["device_info"]] == [
        {"qid": 0, "dev_status": "Ready", "sku_type": "PCIe", "nsp_total": 14, "nsp_free": 14},
        {"qid": 1, "dev_status": "Ready", "sku_type": "PCIe Pro", "nsp_total": 16, "nsp_free": 16},
    ]


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["-s", "0"], 99, "is not emulated"),
        (["-q", "-s"], 99, "is not emulated"),
        (["-a"], 99, "is not emulated"),
        (["-t", "1"], 99, "is not emulated"),
        (["-q", "-d", "7"], 255, "Device 7 invalid\nFailed to query Device ID: 7"),
        (["-q", "-x"], 255, "Invalid option -x. Use -h, -help, or --help for list of options."),
        (["-q", "-d"], 255, "needs a value"),
        ([], 255, "nothing asked"),
        (["-V"], 0, ""),
    ],
)
def test_bad_usage_ends_loudly_and_is_in_the_journal(desk, argv, code, text):
    done = desk.call(desk.sdk.util, *argv)
    assert done.returncode == code
    assert text in done.stderr
    (call,) = desk.sdk.calls("qaic-util")
    assert (call.exit_code, text in call.note) == (code, True)


def test_faults(desk):
    desk.sdk.set_faults([Fault("util", "fail", where={"qid": 1}), Fault("util", "garbage", times=1)])
    assert desk.query("-d", 1).returncode == 255
    garbage = desk.query("-d", 0)
    assert garbage.returncode == 0
    assert "Status:" not in garbage.stdout
    assert desk.fields(0)["Status"] == "Ready"
