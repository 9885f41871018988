"""Where two tables differ: which row, which column, and what stands there. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# Enough to see what kind of difference it is; the rest is counted.
SHOWN_ROWS = 5
_NAMED_BY = ("model", "objective", "slot")


def differences(stored: pa.Table, computed: pa.Table) -> Iterator[str]:
    """In words: other columns, another number of rows, then for each column the rows where it differs.
    Nothing is one value, and so is not-a-number."""
    names = [name for name in computed.column_names if name in stored.column_names]
    for these, others, whose in ((stored, computed, "only stored"), (computed, stored, "not stored")):
        if only := [name for name in these.column_names if name not in others.column_names]:
            yield f"columns {', '.join(only)} are {whose}"
    if stored.num_rows != computed.num_rows:
        yield f"{stored.num_rows:,} rows are stored, {computed.num_rows:,} follow from the results"
        return
    for name in names:
        left, right = _plain(stored[name]), _plain(computed[name])
        if left.equals(right):
            continue
        if left.type != right.type:
            yield f"column {name} is stored as {left.type}, and should be {right.type}"
            continue
        rows = np.flatnonzero(_unequal(left, right))
        for row in rows[:SHOWN_ROWS].tolist():
            who = ", ".join(str(computed[key][row].as_py()) for key in _NAMED_BY if key in names)
            yield (
                f"row {row} ({who}), column {name}: {left[row].as_py()!r} is stored,"
                f" {right[row].as_py()!r} follows from the results"
            )
        if len(rows) > SHOWN_ROWS:
            yield f"column {name}: {len(rows) - SHOWN_ROWS:,} more rows"


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return column.cast(pa.string())
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), None, column)
    return column


def _unequal(left: pa.ChunkedArray, right: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Equal are the same values, and nothing on both sides."""
    same = pc.fill_null(pc.equal(left, right), False)
    neither = pc.and_(pc.is_null(left), pc.is_null(right))
    unequal: npt.NDArray[np.bool_] = pc.invert(pc.or_(same, neither)).to_numpy()
    return unequal
