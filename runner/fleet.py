"""The fleet's view: one cell on many nodes or devices, and which of them lag behind. Pure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runner.keys import ANY_TARGET
from runner.result import OK, warned

SLOW_DEVICE = "slow-device"
SLOW_RATIO = 0.95
COLUMNS = ("fleet_median_images_s", "fleet_ratio")


def compare(table: pa.Table) -> pa.Table:
    """Add `fleet_median_images_s`, the median over targets of a row's (objective, cell), and `fleet_ratio`,
    the row's share of it; both empty where a cell has one target.

    `slow-device` is warned of below 0.95 of the median, where also the upper end of the row's interval
    is below the median's lower end (half width: the median one of the cell's intervals).
    """
    count = table.num_rows
    median, ratio, slow = np.full(count, np.nan), np.full(count, np.nan), np.zeros(count, dtype=bool)
    if not pc.all(pc.equal(table["target"].cast(pa.string()), ANY_TARGET)).as_py():
        names = ["objective", "cell", "status", "throughput_images_s", "throughput_ci95_images_s"]
        frame = table.select(names).to_pandas()
        ok = frame[frame["status"] == OK]
        cells = ok.groupby(["objective", "cell"], observed=True, sort=False)
        several = cells["throughput_images_s"].transform("count") > 1
        centre = cells["throughput_images_s"].transform("median").where(several)
        reach = cells["throughput_ci95_images_s"].transform("median")
        mine, half = ok["throughput_images_s"], ok["throughput_ci95_images_s"]
        median[ok.index], ratio[ok.index] = centre, mine / centre
        slow[ok.index] = (mine / centre < SLOW_RATIO) & (mine + half < centre - reach)
    table = table.append_column("fleet_median_images_s", pa.array(median, from_pandas=True))
    table = table.append_column("fleet_ratio", pa.array(ratio, from_pandas=True))
    if not slow.any():
        return table
    warnings = warned(table["warnings"].combine_chunks(), pa.array(slow), SLOW_DEVICE)
    return table.set_column(table.schema.get_field_index("warnings"), "warnings", warnings)
