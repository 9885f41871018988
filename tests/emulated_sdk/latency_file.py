"""The runner's latency files: four leading lines (here invented), a CSV header, a row an inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .styles import NOTICE, Style

if TYPE_CHECKING:
    import numpy as np

_COUNTERS = ("queueDepth", "numInfInQueue")
_DEVICE = ("devInfPerSec", "devExecUs", "devInWaitTimeUs", "devOutWaitTimeUs")
_HOST = ("hostRoundTripUs", "enqTimeUs", "preProcTimeUs", "submitTimeUs", "execTotalUs", "exectoVcUs",
         "execToCompleteUs", "postProcUs", "totalRoundtripTimeUs")  # fmt: skip
# Parts of a round trip that the host takes, and the most microseconds each: from 7 cores with one inference
# in flight in the vendor's tuning notebook. Waiting in a queue belongs to the card's part.
_PARTS = {
    "vc": (0.0027, 5),
    "kernel": (0.0255, 40),
    "pre": (0.0274, 40),
    "post": (0.0018, 3),
    "rest": (0.0256, 40),
}


def columns(style: Style) -> Sequence[str]:
    """Names in the file's order."""
    if style.counters_last:
        return ("Sample", *_DEVICE, *_HOST, *_COUNTERS)
    return ("Sample", *_COUNTERS, *_DEVICE, *_HOST)


def round_trips_us(mean_us: float, set_size: int, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` round trips about `mean_us`. The spread shrinks with a queue; the first one is late."""
    import numpy as np

    sigma = 0.045 if set_size == 1 else 0.012
    drawn = mean_us * np.exp(sigma * random.standard_normal(count) - sigma**2 / 2)
    if count >= 200:
        drawn[0] *= 2.5
    return drawn


def write(
    path: Path, style: Style, round_trips: np.ndarray, *, set_size: int, first: int, device: bool
) -> None:
    """Write one activation's file; `first` is the number of its first row, `device` whether the program
    was compiled with statistics."""
    lines = [f"# {NOTICE}", f"# program {path.name}", f"# set size {set_size}", "# times in microseconds"]
    lines.append(", ".join(columns(style)))
    head = _columns_of(round_trips)
    dev = (
        [f"{1e6 / t:.3f}, {t * 0.9:.3f}, {t * 0.05:.3f}, 0.124" for t in round_trips.tolist()]
        if device
        else ["N/A, N/A, N/A, N/A"] * len(round_trips)
    )
    counters = f"{set_size}, {set_size - 1}"
    for number, (device_part, host_part) in enumerate(zip(dev, head, strict=True), first):
        if style.counters_last:
            lines.append(f"{number}, {device_part}, {host_part}, {counters}")
        else:
            lines.append(f"{number}, {counters}, {device_part}, {host_part}")
    path.write_text("\n".join(lines) + "\n")


def _columns_of(total: np.ndarray) -> list[str]:
    """The host's columns: whole microseconds for those the card's driver counts, decimals for the rest."""
    import numpy as np

    part = {name: np.minimum(total * share, most) for name, (share, most) in _PARTS.items()}
    to_vc = np.maximum(1, np.rint(part["vc"]))
    host = np.rint(total - part["pre"] - part["post"] - part["kernel"] - part["rest"])
    enqueue = np.full_like(total, 1.6)
    table = np.column_stack(
        [host, enqueue, part["pre"], enqueue, host + part["kernel"], to_vc, host - to_vc, part["post"], total]
    )
    row = "%d, %.3f, %.3f, %.3f, %.3f, %d, %d, %.3f, %.3f"
    return [row % tuple(values) for values in table.tolist()]
