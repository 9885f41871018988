"""The emulated device query: text in the fields' known order, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import faults
from .cards import Seen
from .entry import Invocation
from .options import BAD_USAGE, Convert, Refused, integer, parse_words, refuse_unemulated
from .styles import NOTICE, Style

_OPTIONS: dict[str, Convert | None] = {"q": None, "d": integer(0), "j": str, "V": None}


def run(call: Invocation) -> int:
    # -s resets a SoC: no test may ever come to it.
    refuse_unemulated(call.argv, ("s", "a", "t", "f"))
    options = parse_words(call.argv, _OPTIONS, {}, frozenset({"d"}))
    style = call.state.style
    if options.get("V"):
        print(f"qaic-util {style.version}.{style.build} ({NOTICE})")
        return 0
    if "q" not in options and "j" not in options:
        raise Refused("EMULATED: nothing asked: -q, -j or -V")
    known = [card.qid for card in call.state.cards()]
    qids = options["d"] or known
    fault = call.state.take_fault("util", {"qid": qids}, call.argv)
    if fault == "garbage":
        print("\x00\x01 EMULATED garbage\n\tStatus\nQID zero\n\tNsp Total:many")
        return 0
    if fault == "fail":
        raise Refused("Failed to get Runtime Platform", BAD_USAGE)
    if fault.endswith("hang"):
        faults.hang(stubborn=fault == "stubborn-hang", tell=call.tell_child)
    for qid in qids:
        if qid not in known:
            raise Refused(f"Device {qid} invalid\nFailed to query Device ID: {qid}")
    cards = [card for card in call.state.cards(query=qids) if card.qid in qids]
    if "j" in options:
        content = {"EMULATED": NOTICE, "device_info": [_json(style, card) for card in cards]}
        Path(options["j"]).write_text(json.dumps(content, indent=2))
    if "q" in options:
        for card in cards:
            if card.status == "Error":
                print(f"[error][LogCommon][openDevice:#68] Failed to open device /dev/qaic_aic100_{card.qid}")
                print(f"[error][QKmdDeviceFactory][getDevice:#117] Failed to open() device. QID {card.qid}")
        print(f"LRT QC_IMAGE_VERSION: LRT.AIC.EMULATED.{style.version}.{style.build}")
        print(f"{style.devices_line}: {len(cards)}")
        for card in cards:
            print(f"QID {card.qid}")
            print("".join(f"\t{line}\n" for line in _lines(style, card)), end="")
    return 0


def _lines(style: Style, card: Seen) -> Iterator[str]:
    yield f"Status:{card.status}"
    if style.sku_lines:
        yield f"MHI ID:{card.qid + 1}"
    yield f"PCI Address:0000:{card.qid + 1:02x}:00.0"
    yield "PCI Info:Processing accelerators Qualcomm Device a100"
    yield "Max Link Speed:16GT/s"
    yield "Max Link Width:8"
    yield "Current Link Speed:16GT/s"
    yield "Current Link Width:8"
    yield "Dev Link:Up"
    if card.ready:
        yield from _resources(style, card)
    if style.sku_lines:
        yield f"Sku Type:{card.sku}"
    if card.ready:
        yield f"Board serial:{card.serial}"
    if style.sku_lines:
        if card.temperature_c is not None:
            yield f"SoC temperature(degree C):{card.temperature_c:.2f}"
        if card.power_w is not None:
            yield f"Board power(Watts):{card.power_w:.2f}"
            yield "TDP Cap(Watts):75.00"


def _resources(style: Style, card: Seen) -> Iterator[str]:
    """What only a device that is Ready shows."""
    version = card.fw_version or f"{style.version}.{style.build}"
    total, free = _memory(style, card)
    used = card.nsp_total - card.nsp_free
    yield "HW Version:2.0.0.0"
    yield f"HW Serial:0xe{card.qid:07x}"
    yield f"FW Version:{version}"
    yield f"FW QC_IMAGE_VERSION:BOOT.AIC.EMULATED.{version}"
    yield f"FW OEM_IMAGE_VERSION:EMULATED.{version}"
    yield "FW IMAGE_VARIANT:AIC100.REL"
    yield f"NSP Version:{version}"
    yield f"NSP QC_IMAGE_VERSION:CDSP.AIC.EMULATED.{version}"
    yield f"NSP OEM_IMAGE_VERSION:EMULATED.{version}"
    yield "NSP IMAGE_VARIANT:AIC100.REL"
    yield f"Dram Total:{total} {style.memory_unit}"
    yield f"Dram Free:{free} {style.memory_unit}"
    yield "Dram Fragmentation:0.00%"
    yield "Vc Total:16"
    yield f"Vc Free:{16 - card.networks}"
    yield "Pc Total:64"
    yield "Pc Reserved:0"
    yield f"Nsp Total:{card.nsp_total}"
    yield f"Nsp Free:{card.nsp_free}"
    yield f"Last 100ms Average Dram Bw:{37.5 * used:.2f} KBps"
    yield "MCID Total:2048"
    yield "MCID Free:2048"
    yield "Semaphore Total:32"
    yield "Semaphore Free:32"
    yield f"Constants Loaded:{card.networks}"
    yield f"Constants In-Use:{card.networks}"
    yield f"Networks Loaded:{card.networks}"
    yield f"Networks Active:{card.networks}"
    for clock, mhz in (("NSP", 825), ("DDR", 2133), ("COMPNOC", 1000), ("MEMNOC", 1000), ("SYSNOC", 800)):
        yield f"{clock} Frequency(Mhz):{mhz}"
    yield "Metadata Version:7.13"
    yield "NNC Command Protocol Version:9.1"
    yield f"SBL Image:SBL.EMULATED.{version}"
    yield "PVS Image Version:22"
    yield "NSP Defective PG Mask: 0x0"


def _memory(style: Style, card: Seen) -> tuple[int, int]:
    """DRAM in the style's unit; every network takes 5 %, made up."""
    total = card.dram_mb * (1024 if style.memory_unit == "KB" else 1)
    return total, total * max(0, 20 - card.networks) // 20


def _json(style: Style, card: Seen) -> dict[str, Any]:
    """One device. Keys beyond those the vendor's benchmark reads are made up, and so is every type."""
    shown: dict[str, Any] = {"qid": card.qid, "dev_status": card.status}
    if card.ready:
        total, free = _memory(style, card)
        shown |= {"nsp_total": card.nsp_total, "nsp_free": card.nsp_free, "dram_total": total,
                  "dram_free": free, "board_serial": card.serial}  # fmt: skip
    if style.sku_lines:
        shown |= {"sku_type": card.sku}
    return shown
