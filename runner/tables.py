"""The published table: Parquet, CSV and Markdown files in the store, and what they were made from.

tables/<digest>/{table.parquet, table.csv, summary.md, segments-<digest>.parquet, manifest.json},
then current.json is swapped. `verify` holds all of it to the segments.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner import keys, merge, scratch
from runner.artifacts import digest_file
from runner.errors import BadInput, Problem
from runner.plan import Plan
from runner.segments import Results
from runner.store import Store
from runner.table_records import (
    CURRENT,
    MANIFEST_SCHEMA,
    DamagedTable,
    SegmentsRecord,
    TableManifest,
    current_of,
    manifest_key,
    manifest_of,
)
from runner.views import default_view, to_markdown, write_csv

SEGMENTS_SCHEMA = pa.schema([("key", pa.string()), ("sha256", pa.binary(32)), ("fault", pa.string())])
# No person reads a million rows of Markdown.
SUMMARY_ROWS = 1_000
ROW_GROUP = 100_000

# Of segments by key: SHA-256, and why it was left out.
Merged = Mapping[str, tuple[bytes | None, str | None]]


def publish(
    home: Store,
    plan: Plan,
    results: Results,
    table: pa.Table,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Write the table's files and make it the current one; returns its folder in the store. `facts` are
    further fields of the manifest. Raises Infrastructure where this host has no room for them, StoreError."""
    sweep = plan.header["sweep"]
    with scratch.temporary() as folder:
        parquet, csv = folder / "table.parquet", folder / "table.csv"
        text = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
        with scratch.writing(folder):
            pq.write_table(table, parquet, compression="zstd", use_dictionary=text, row_group_size=ROW_GROUP)
            with csv.open("wb") as file:
                write_csv(table, file)
        sha256 = digest_file(parquet)
        at = f"tables/{sha256[: keys.ID_HEX_DIGITS]}"
        made = {"table.parquet": sha256, "table.csv": digest_file(csv)}
        home.put(f"{at}/table.parquet", parquet)
        home.put(f"{at}/table.csv", csv)
    segments = encode_segments(results)
    # By its content, since two merges may give one table from different segments.
    segments_name = f"segments-{keys.digest_bytes(segments)[: keys.ID_HEX_DIGITS]}.parquet"
    text_of_summary = summary(table, f"{sweep['name']} (run {sweep['run']})").encode()
    for name, data in ((segments_name, segments), ("summary.md", text_of_summary)):
        made[name] = keys.digest_bytes(data)
        home.put(f"{at}/{name}", data)
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "sweep": sweep,
        "plan": plan.digest,
        "counts": merge.counts(table),
        **(facts or {}),
        "segments": {"file": segments_name, "count": len(results.digests), "damaged": len(results.damaged)},
        "files": made,
    }
    home.put(manifest_key(at), orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    current = {"plan": plan.digest, "table": at, "emulated": plan.header["emulated"]}
    home.put(CURRENT, orjson.dumps(current, option=orjson.OPT_SORT_KEYS))
    return at


def encode_segments(results: Results) -> bytes:
    """Parquet with a row for each segment that was read: key, SHA-256, and why it was left out (null: it was
    not). Of a segment that was not even read the digest is null. A million cells have 20,000 of them."""
    known = sorted(results.digests.keys() | results.damaged.keys())
    digests = [bytes.fromhex(results.digests[key]) if key in results.digests else None for key in known]
    columns = [known, digests, [results.damaged.get(key) for key in known]]
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SEGMENTS_SCHEMA), sink, compression="zstd")
    return sink.getvalue()


def summary(table: pa.Table, title: str) -> str:
    """Markdown for people: every row in the grid's order, or the best SUMMARY_ROWS of more."""
    note = ""
    if table.num_rows > SUMMARY_ROWS:
        left_out = table.num_rows - SUMMARY_ROWS
        note = f"The {SUMMARY_ROWS:,} best; {left_out:,} more rows are in table.csv and table.parquet.\n\n"
        rank = pc.fill_null(table["rank"], np.iinfo(np.int64).max).to_numpy()
        table = table.take(np.argsort(rank, kind="stable")[:SUMMARY_ROWS])
    return f"# {title}\n\n{note}{to_markdown(default_view(to_frame(table)))}\n"


def read_current(home: Store) -> tuple[pa.Table, TableManifest]:
    """The current table of a sweep's run and its manifest. Raises NotFound where none was published, DamagedTable."""
    at = current_of(home).table
    key = f"{at}/table.parquet"
    return parse_parquet(home, key, home.get(key)), manifest_of(home, at)


def parse_parquet(home: Store, key: str, data: bytes) -> pa.Table:
    """A file of a table. Raises DamagedTable."""
    try:
        return pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise DamagedTable(home, key, f"can't be read: {error}") from error


def merged_segments(home: Store, at: str, manifest: TableManifest) -> Merged:
    """What the table in folder `at` was merged from: by key the SHA-256, and why the segment was left out. Raises
    NotFound, DamagedTable."""
    if not isinstance(manifest.segments, SegmentsRecord):
        return dict.fromkeys(manifest.segments, (None, None))
    key = f"{at}/{manifest.segments.file}"
    rows = parse_parquet(home, key, home.get(key))
    if rows.schema != SEGMENTS_SCHEMA or rows["key"].null_count:
        raise DamagedTable(home, key, "can't be understood: its columns are others")
    return {row["key"]: (row["sha256"], row["fault"]) for row in rows.to_pylist()}


def links(home: Store, seconds: int) -> list[str]:
    """URLs of the current table's files that anybody may read for so long, or until our own credentials expire.
    Raises NotFound where there is no table, BadInput where the store is no bucket."""
    at = current_of(home).table
    found = [home.link(f"{at}/{name}", seconds) for name in ("table.csv", "table.parquet")]
    urls = [url for url in found if url is not None]
    if not urls:
        raise BadInput(
            [Problem("--link", f"{home.url} has no links: it is not on S3", "copy table.csv from there")]
        )
    return urls


def to_frame(table: pa.Table) -> pd.DataFrame:
    """The table as pandas, text columns plain, whole numbers nullable."""
    columns = [
        column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    plain = pa.table(columns, names=table.column_names)
    integers = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.int16(): pd.Int16Dtype()}
    frame: pd.DataFrame = plain.to_pandas(types_mapper=integers.get)
    return frame
