"""What the cards of this host say of themselves: one bounded call of qaic-util, parsed into `Card`s.

A field that is absent or unreadable is unknown, never assumed. The raw text is kept with the result, so
that a fact learnt later can be read from old measurements.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import process
from runner.backends.qaic.sdk import Sdk
from runner.errors import Infrastructure

READY, INITIALIZING = "Ready", "Initializing"
QUERY_LIMIT_S = 30.0
# SKUs of which a board carries several SoCs, each a QID of its own, under one board serial.
_SEVERAL_SOCS = "Ultra"
_HEAD = re.compile(r"QID (\d+)\s*")
_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([KMG]B)?\s*")
_UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30}
_DRIVER_VERSION = Path("/sys/module/qaic/version")


@dataclass(frozen=True)
class Card:
    """One SoC, which is one QID. Empty texts and None are unknown.

    `fields` are the lines as printed, `raw` the text they come from.
    """

    qid: int
    fields: Mapping[str, str]
    raw: str

    @property
    def status(self) -> str:
        return self.fields.get("Status", "")

    @property
    def ready(self) -> bool:
        return self.status == READY

    @property
    def sku(self) -> str:
        sku = self.fields.get("Sku Type", "")
        return "" if sku == "Invalid" else sku

    @property
    def board_serial(self) -> str:
        return self.fields.get("Board serial", "")

    @property
    def serial(self) -> str:
        """The SoC's name for ever: its board's serial, with its own where a board carries several; else its
        own; else its place in this host."""
        own = self.fields.get("HW Serial", "")
        if self.board_serial and own and _SEVERAL_SOCS in self.sku:
            return f"{self.board_serial}:{own}"
        return self.board_serial or own or f"{socket.gethostname()}-qid{self.qid}"

    @property
    def firmware(self) -> str:
        return self.fields.get("FW Version", "")

    @property
    def nsp_total(self) -> int | None:
        return _whole(self.fields.get("Nsp Total"))

    @property
    def nsp_free(self) -> int | None:
        return _whole(self.fields.get("Nsp Free"))

    @property
    def temperature_c(self) -> float | None:
        return _number(self.fields.get("SoC temperature(degree C)"))

    @property
    def power_w(self) -> float | None:
        return _number(self.fields.get("Board power(Watts)"))

    @property
    def dram_total_bytes(self) -> int | None:
        return _whole(self.fields.get("Dram Total"))

    @property
    def in_use(self) -> bool | None:
        """Whether any NSP is taken or a network active; None if unknown."""
        networks = _whole(self.fields.get("Networks Active"))
        if networks:
            return True
        if self.nsp_total is None or self.nsp_free is None:
            return None
        return self.nsp_free < self.nsp_total

    @property
    def use(self) -> str:
        """`5 of 14 NSPs in use`, as far as known."""
        if self.nsp_total is None or self.nsp_free is None:
            return "use of its NSPs unknown"
        return f"{self.nsp_total - self.nsp_free} of {self.nsp_total} NSPs in use"


def parse(text: str) -> list[Card]:
    """The cards in what `qaic-util -q` printed, of any SDK line; empty where it is no such text."""
    cards: list[Card] = []
    fields: dict[str, str] = {}
    raw: list[str] = []

    def close() -> None:
        if cards:
            cards[-1] = Card(cards[-1].qid, dict(fields), "\n".join(raw))

    for line in text.splitlines():
        if head := _HEAD.fullmatch(line):
            close()
            cards.append(Card(int(head[1]), {}, ""))
            fields, raw = {}, [line]
        elif cards:
            raw.append(line)
            key, colon, value = line.strip().partition(":")
            # Lines of the tool's own log begin with a bracket.
            if colon and not key.startswith("["):
                fields.setdefault(key, value.strip())
    close()
    return cards


def query(sdk: Sdk, qids: Sequence[int] = (), *, limit_s: float = QUERY_LIMIT_S) -> list[Card]:
    """Ask these cards, or all of the host. Raises Infrastructure where there is no answer."""
    asked = [word for qid in qids for word in ("-d", str(qid))]
    ended = process.run([sdk.query(), *asked, "-q"], limit_s=limit_s)
    if ended.over_limit:
        raise Infrastructure(
            f"{ended.tool} had not answered after {limit_s:g} s",
            remedy="a card or its driver hangs; look at dmesg, its owner may have to reset it",
            reason="device-query",
        )
    if cards := parse(ended.stdout):
        return cards
    lines = (ended.stderr_tail + ended.stdout_tail).strip().splitlines()
    raise Infrastructure(
        f"{ended.tool} found no card (exit code {ended.exit_code}): {lines[-1][:200] if lines else 'no output'}",
        remedy="check that a card is in this host (lspci -d 17cb:), its driver is loaded, and its device node"
        " (/dev/accel/accel0) is yours: join the group `qaic`",
        reason="no-device",
    )


def driver_version() -> str:
    """Version of the kernel's qaic driver; empty where it does not say."""
    try:
        return _DRIVER_VERSION.read_text().strip()
    except OSError:
        return ""


def _number(text: str | None) -> float | None:
    """The number in `32692 MB` (in bytes) or `28.00`; None if it is none."""
    found = _NUMBER.fullmatch(text or "")
    return float(found[1]) * _UNITS.get(found[2] or "", 1) if found else None


def _whole(text: str | None) -> int | None:
    value = _number(text)
    return None if value is None else int(value)
