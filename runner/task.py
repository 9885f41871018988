"""A slot to be measured, with what it needs, and what all of these are called while they are in flight. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner import keys
from runner.cells import Cell


@dataclass(frozen=True)
class Task:
    """One slot to measure, read from a lot. `export` and `binary` are ids of requests; no binary where the
    target compiles. `anew`: the compiler is asked for the binary though it is known to have refused it."""

    slot: str
    cell_id: str
    cell: Cell
    target: str
    model: str
    epoch: int
    location: str
    export: str
    binary: str
    estimate_s: float
    anew: bool = False
    # The newest that a slot which needs them was asked for again in.
    export_epoch: int = 0
    binary_epoch: int = 0

    @property
    def item(self) -> str:
        """What its measurement is called while it is in flight: what is asked for anew is not what others died
        with."""
        return in_flight(self.slot, self.epoch)

    @property
    def export_item(self) -> str:
        return in_flight(self.export, self.export_epoch)

    @property
    def binary_item(self) -> str:
        return in_flight(self.binary, self.binary_epoch)

    @property
    def export_request(self) -> keys.ExportRequest:
        return replace(self.cell.export_request, location=self.location)


def in_flight(id: str, epoch: int) -> str:
    """What a slot, an export or a binary is called in markers and journals of what is in flight."""
    return f"{id}.{epoch}" if epoch else id
