"""Columns of a plan's rows and the metadata beside them, for those who write a plan and those who read it."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from runner.cells import CELL_FIELDS

SCHEMA = 2
# Rows of a row group, at least: what reading one lot costs.
ROW_GROUP = 10_000

TEXT = pa.dictionary(pa.int32(), pa.string())
_CELL_TYPES: Mapping[str, pa.DataType] = {
    **{
        name: pa.int32()
        for name in ("image_size", "opset", "batch_size", "cores", "instances", "set_size", "ols")
    },
    "repeats": pa.int32(),
    "seconds": pa.float64(),
}
PLAN_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("lot", pa.int32()),
        ("position", pa.int32()),
        ("slot", pa.string()),
        ("cell", pa.string()),
        ("target", TEXT),
        ("epoch", pa.int16()),
        ("model", TEXT),
        ("objective", TEXT),
        ("base", TEXT),
        ("unfit", TEXT),
        ("location", TEXT),
        ("export", TEXT),
        ("binary", TEXT),
        ("estimate_s", pa.float64()),
        ("compile_estimate_s", pa.float64()),
        ("lut_throughput_images_s", pa.float64()),
        ("lut_latency_p95_s", pa.float64()),
        *((name, _CELL_TYPES.get(name, TEXT)) for name in CELL_FIELDS),
    ]
)
METADATA_KEY = "aicsweep"
# Never twice the same value: a dictionary would only cost time and space.
DISTINCT = {"row", "position", "slot", "cell"}
