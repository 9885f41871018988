"""Cards that are emulated: what a test says of one, and what an invocation sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

# NSPs and DRAM of one SoC by Sku Type (vendor's architecture page).
NSPS = {"PCIe": 14, "PCIe Pro": 16, "PCIe Ultra": 16, "M.2": 8}
DRAM_MB = {"PCIe": 16384, "PCIe Pro": 32692, "PCIe Ultra": 32692, "M.2": 8192}
STATUSES = ("Ready", "Error", "Initializing", "Unknown")
T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """One SoC, one QID (an Ultra card is four of them).

    `status`, `temperature_c` and `busy_nsps` may be a sequence: one value for each query of the card,
    the last one stays. `busy_nsps` are NSPs held by somebody else. None for `temperature_c` or `power_w`:
    the line is missing. `throughput_factor` makes a card slower or faster than its SKU.
    """

    qid: int | None = None
    serial: str = ""
    sku: str = "PCIe"
    nsp_total: int | None = None
    dram_mb: int | None = None
    fw_version: str = ""
    status: str | Sequence[str] = "Ready"
    temperature_c: float | Sequence[float | None] | None = 38.0
    power_w: float | None = 18.0
    busy_nsps: int | Sequence[int] = 0
    throughput_factor: float = 1.0

    def content(self, position: int) -> dict[str, Any]:
        """Plain values of this card, the gaps filled by its SKU and its position in the list."""
        sequences = {
            name: list(value) if isinstance(value, (list, tuple)) else [value]
            for name, value in (
                ("status", self.status), ("temperature_c", self.temperature_c), ("busy_nsps", self.busy_nsps)
            )
        }  # fmt: skip
        if unknown := set(sequences["status"]) - set(STATUSES):
            raise ValueError(f"no such status: {unknown}")
        return {
            "qid": position if self.qid is None else self.qid,
            "serial": self.serial or f"EMUL-{position:04d}",
            "sku": self.sku,
            "nsp_total": self.nsp_total or NSPS.get(self.sku, 14),
            "dram_mb": self.dram_mb or DRAM_MB.get(self.sku, 16384),
            "fw_version": self.fw_version,
            "power_w": self.power_w,
            "throughput_factor": self.throughput_factor,
            **sequences,
        }


@dataclass(frozen=True)
class Seen:
    """A card at one moment, its NSPs in use by emulated runners counted."""

    qid: int
    serial: str
    sku: str
    status: str
    nsp_total: int
    nsp_free: int
    networks: int
    dram_mb: int
    fw_version: str
    temperature_c: float | None
    power_w: float | None
    throughput_factor: float

    @property
    def ready(self) -> bool:
        return self.status == "Ready"


def at(sequence: Sequence[T], queries: int) -> T:
    """The value the `queries`-th query (from 1) shows; 0 is before the first."""
    return sequence[min(max(queries - 1, 0), len(sequence) - 1)]
