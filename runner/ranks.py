"""Ranks: rivals of (model, objective, target) in order, best first, and who can't be told from the best. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runner.axes import BEST_LATENCY, BEST_THROUGHPUT
from runner.result import OK

COLUMNS = ("rank", "tie")

_Floats = npt.NDArray[np.float64]


def with_ranks(table: pa.Table) -> pa.Table:
    """`table` with `rank` among rivals of (model, objective, target), 1 the best (null where nothing was
    measured), and `tie` where a rival's interval overlaps the best one's.

    best-throughput ranks by images/s, best-latency by p95, balanced by the distance to the ideal corner
    of normalised throughput and latency (the knee of the front).
    """
    measured = pc.and_(
        pc.equal(table["status"].cast(pa.string()), OK), pc.is_valid(table["throughput_images_s"])
    )
    rows = np.flatnonzero(measured.to_numpy())
    found = table.select(
        ["model", "objective", "target", "throughput_images_s", "throughput_ci95_images_s", "latency_p95_s",
         "latency_p95_ci95_s"]
    ).take(rows)  # fmt: skip
    group = _groups(found)
    score, reach = _scores(found, group)
    comparable = ~np.isnan(score)
    rows, group, score, reach = rows[comparable], group[comparable], score[comparable], reach[comparable]

    order = np.lexsort((score, group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    places = np.arange(len(order)) - np.repeat(starts, sizes) + 1
    best = np.repeat(order[starts], sizes)
    close = score[order] - reach[order] <= score[best] + reach[best]
    ties = (
        close & np.repeat(np.add.reduceat(close.astype(np.int64), starts) > 1, sizes)
        if len(starts)
        else close
    )

    rank = np.zeros(table.num_rows, dtype=np.int64)
    tie = np.zeros(table.num_rows, dtype=bool)
    rank[rows[order]], tie[rows[order]] = places, ties
    table = table.append_column("rank", pa.array(rank, mask=rank == 0))
    return table.append_column("tie", pa.array(tie))


def _groups(found: pa.Table) -> npt.NDArray[np.int64]:
    """A number for each row's (model, objective, target)."""
    group = np.zeros(found.num_rows, dtype=np.int64)
    for name in ("model", "objective", "target"):
        coded = found[name].unify_dictionaries().combine_chunks()
        group = group * len(coded.dictionary) + coded.indices.to_numpy()
    return group


def _scores(found: pa.Table, group: npt.NDArray[np.int64]) -> tuple[_Floats, _Floats]:
    """What rivals are ordered by, the lowest best, and the half width of its interval (0 where unknown)."""
    throughput, latency = _floats(found["throughput_images_s"]), _floats(found["latency_p95_s"])
    most, least = np.full(group.max(initial=0) + 1, np.nan), np.full(group.max(initial=0) + 1, np.nan)
    np.fmax.at(most, group, throughput)
    np.fmin.at(least, group, latency)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Nothing over nothing is no rank.
        knee = np.hypot(1 - throughput / most[group], 1 - least[group] / latency)
    objective = found["objective"].cast(pa.string())
    by_throughput, by_latency = (
        pc.equal(objective, name).to_numpy() for name in (BEST_THROUGHPUT, BEST_LATENCY)
    )
    score = np.select([by_throughput, by_latency], [-throughput, latency], knee)
    half = np.select(
        [by_throughput, by_latency],
        [_floats(found["throughput_ci95_images_s"]), _floats(found["latency_p95_ci95_s"])],
        0.0,
    )
    return score, np.nan_to_num(half)


def _floats(column: pa.ChunkedArray) -> _Floats:
    return np.asarray(column.to_numpy(), dtype=np.float64)
