"""Statistics of one cell: windows in, one summary out. Pure: no clock, no I/O.

Stands between a backend's `Measurement` and the row of the table. The unit of repetition is
the window: throughput intervals come from windows, never from single inferences, whose
latencies depend on each other (requests wait in one queue).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from runner.backends import Window

CONFIDENCE = 0.95
# Outside these the latencies and the throughput of a closed loop contradict each other.
LITTLES_LAW_RANGE = (0.8, 1.3)

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """What a row says of a cell. Throughput in images/s over windows, latency in seconds per batch
    over all samples of all windows; `ci95` are half widths. None: too few observations to say."""

    throughput_images_s: float
    throughput_std: float | None
    throughput_ci95: float | None
    throughput_n: int
    latency_n: int
    latency_mean_s: float | None
    latency_min_s: float | None
    latency_p50_s: float | None
    latency_p90_s: float | None
    latency_p95_s: float | None
    latency_p99_s: float | None
    latency_max_s: float | None
    latency_p95_ci95: float | None


def summarise(windows: Sequence[Window]) -> Summary:
    """Summary of one or more windows. Raises ValueError for none, or for a value that is not finite."""
    if not windows:
        raise ValueError("no windows to summarise")
    rates = [window.throughput_images_s for window in windows]
    pooled = np.sort(np.concatenate([window.latencies_s for window in windows]))
    if not (np.isfinite(rates).all() and np.isfinite(pooled).all()):
        raise ValueError("a throughput or latency is not a finite number")
    std = _std(rates)
    some = len(pooled) > 0
    return Summary(
        throughput_images_s=math.fsum(rates) / len(rates),
        throughput_std=std,
        throughput_ci95=None if std is None else _t_half_width(std, len(rates)),
        throughput_n=len(rates),
        latency_n=len(pooled),
        latency_mean_s=float(pooled.mean()) if some else None,
        latency_min_s=float(pooled[0]) if some else None,
        latency_p50_s=percentile(pooled, 0.50),
        latency_p90_s=percentile(pooled, 0.90),
        latency_p95_s=percentile(pooled, 0.95),
        latency_p99_s=percentile(pooled, 0.99),
        latency_max_s=float(pooled[-1]) if some else None,
        latency_p95_ci95=_p95_half_width(windows, pooled),
    )


@cache
def samples_needed(p: float) -> int:
    """Fewest samples whose maximum exceeds the p-quantile with 95 % confidence: p^n <= 0.05.

    The one-sided distribution-free tolerance limit (S. S. Wilks, Annals of Mathematical
    Statistics 12, 1941): 59 for p95, 299 for p99.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(p))


def percentile(ordered: Samples, p: float) -> float | None:
    """The p-quantile of sorted samples by linear interpolation (numpy's default and the vendor's
    definition), or None where there are too few samples to support it."""
    return _quantile(ordered, p) if len(ordered) >= samples_needed(p) else None


def _quantile(ordered: Samples, p: float) -> float:
    # np.quantile gives the same and costs 70 us a call, most of a cell's statistics.
    place = (len(ordered) - 1) * p
    below = math.floor(place)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return low + (high - low) * (place - below)


def littles_law_ratio(summary: Summary, *, instances: int, set_size: int, batch: int) -> float | None:
    """Images in flight as latency x throughput implies, over those the closed loop kept in flight.

    1.0 is consistent (J. D. C. Little, Operations Research 9, 1961); outside
    `LITTLES_LAW_RANGE` the numbers are suspect. None without latencies.
    """
    if summary.latency_mean_s is None:
        return None
    return summary.latency_mean_s * summary.throughput_images_s / (instances * set_size * batch)


def overlapping(a: float, ci_a: float | None, b: float, ci_b: float | None) -> bool:
    """Whether the intervals `a` +- `ci_a` and `b` +- `ci_b` touch: rivals reported as a tie.

    An unknown half width claims nothing and counts as zero: then only the other's interval decides.
    """
    return abs(a - b) <= (ci_a or 0.0) + (ci_b or 0.0)


def _std(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1), independent of the order of `values`."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _t_half_width(std: float, n: int) -> float:
    return _t_quantile(n - 1) * std / math.sqrt(n)


@cache
def _t_quantile(degrees: int) -> float:
    # scipy.stats.t.ppf is this function behind an import of seconds; scipy.special takes a tenth of that.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))


def _p95_half_width(windows: Sequence[Window], pooled: Samples) -> float | None:
    """Half width of the p95's 95 % interval.

    From the spread of the windows' own p95s (Student's t) where every window supports one,
    else from order statistics of all samples. The first is preferred because windows are
    repeats; the second takes samples for independent, which queued requests are not, and so
    tends to be too narrow.
    """
    per_window = [percentile(np.sort(window.latencies_s), 0.95) for window in windows]
    known = [value for value in per_window if value is not None]
    if len(known) == len(windows) and (std := _std(known)) is not None:
        return _t_half_width(std, len(known))
    return _order_half_width(pooled, 0.95)


def _order_half_width(ordered: Samples, p: float) -> float | None:
    """The wider side of the binomial interval for the p-quantile; None where the sample has no such ranks.

    The number of samples below the quantile is Binomial(n, p), so ranks at its 2.5 % and
    97.5 % points enclose the quantile (H. A. David, H. N. Nagaraja, Order Statistics, 7.1).
    """
    ranks = _order_ranks(len(ordered), p)
    if ranks is None:
        return None
    centre = _quantile(ordered, p)
    return max(centre - float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1]) - centre)


@cache
def _order_ranks(n: int, p: float) -> tuple[int, int] | None:
    """The interval's 1-based ranks: P(count < low) <= tail and P(count >= high) <= tail."""
    from scipy.special import bdtr

    if n < samples_needed(p):
        return None
    below = np.asarray(bdtr(np.arange(n + 1, dtype=np.float64), n, p))
    tail = (1 - CONFIDENCE) / 2
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return None if low < 1 or high > n else (low, high)
