"""The ledger: what the devices' time went into, of all results of a sweep's run. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from runner.merge import Winners
from runner.result import OK
from runner.segments import Results


def device_seconds(results: Results, best: Winners) -> Mapping[str, float]:
    """Seconds of device time by what they gave; they add up to all that was used. `best`: `merge.winners`.

    `measuring`: windows of the results that count. `overhead`: their gate, load and warm-up. `failed`:
    everything on what gave no number. `repeated`: numbers of which there is a better or an earlier one.
    """
    every = results.table.select(["status", "device_s", "gate_s", "load_s", "warmup_s"])
    counted = every.take(best.rows)
    counted = counted.filter(pc.equal(counted["status"], OK))
    numbers = every.filter(pc.equal(every["status"], OK))
    around = pc.add(
        _filled(counted["gate_s"]), pc.add(_filled(counted["load_s"]), _filled(counted["warmup_s"]))
    )
    overhead = _sum(pc.min_element_wise(around, counted["device_s"]))
    used = _sum(counted["device_s"])
    return {
        "measuring": used - overhead,
        "overhead": overhead,
        "failed": _sum(every["device_s"]) - _sum(numbers["device_s"]),
        "repeated": _sum(numbers["device_s"]) - used,
    }


def overhead_seconds(results: Results, best: Winners) -> Mapping[str, float]:
    """What the `overhead` of results that count was: `waiting` for a fit device, `loading`, `warm-up`."""
    counted = results.table.select(["status", "gate_s", "load_s", "warmup_s"]).take(best.rows)
    counted = counted.filter(pc.equal(counted["status"], OK))
    return {
        "waiting": _sum(counted["gate_s"]),
        "loading": _sum(counted["load_s"]),
        "warm-up": _sum(counted["warmup_s"]),
    }


def share(device_s: Mapping[str, float]) -> float | None:
    """Of all device time the part that went into numbers that count; None where none was used."""
    used = sum(device_s.values())
    return device_s["measuring"] / used if used else None


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(column, 0.0)


def _sum(column: pa.ChunkedArray) -> float:
    return float(pc.sum(column).as_py() or 0.0)
