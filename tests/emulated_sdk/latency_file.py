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
_WHOLE = ("Sample", "hostRoundTripUs", "exectoVcUs", "execToCompleteUs")
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


def write(path: Path, style: Style, total: np.ndarray, *, set_size: int, first: int, device: bool) -> None:
    """Write one activation's file of round trips `total`; `first` is the number of its first row, `device`
    whether the program was compiled with statistics."""
    cells = _cells(total, set_size, first, device)
    names = columns(style)
    drawn = [cell.tolist() for name in names if not isinstance(cell := cells[name], str)]
    row = ", ".join(
        cell if isinstance(cell := cells[name], str) else "%d" if name in _WHOLE else "%.3f" for name in names
    )
    lines = [f"# {NOTICE}", f"# program {path.name}", f"# set size {set_size}", "# times in microseconds"]
    lines += [", ".join(names), *(row % values for values in zip(*drawn, strict=True))]
    path.write_text("\n".join(lines) + "\n")


def _cells(total: np.ndarray, set_size: int, first: int, device: bool) -> dict[str, np.ndarray | str]:
    """Every column: numbers, or the text that stands in each row."""
    import numpy as np

    part = {name: np.minimum(total * share, most) for name, (share, most) in _PARTS.items()}
    host = np.rint(total - part["pre"] - part["post"] - part["kernel"] - part["rest"])
    to_vc = np.maximum(1, np.rint(part["vc"]))
    on_device = (1e6 / total, total * 0.9, total * 0.05, "0.124") if device else ("N/A",) * 4
    on_host = (
        host,
        "1.600",
        part["pre"],
        "1.600",
        host + part["kernel"],
        to_vc,
        host - to_vc,
        part["post"],
        total,
    )
    return {
        "Sample": np.arange(first, first + len(total)),
        **dict(zip(_COUNTERS, (str(set_size), str(set_size - 1)), strict=True)),
        **dict(zip(_DEVICE, on_device, strict=True)),
        **dict(zip(_HOST, on_host, strict=True)),
    }
