"""A plan in words and numbers, before anything runs. Pure."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from runner.plan import Plan
from runner.progress import duration

# Zstd-compressed result rows and latency samples of one slot, and one model's graph: orders of magnitude.
RESULT_BYTES, GRAPH_BYTES, BINARY_BYTES = 20_000, 120e6, 80e6


def of_plan(plan: Plan) -> dict[str, Any]:
    """What a plan holds: counts, seconds, bytes, and the unfit points with their reasons."""
    table = plan.table
    unfit = table["unfit"].cast(pa.string())
    fits = table.filter(pc.equal(unfit, ""))
    todo = fits.filter(pc.is_valid(fits["lot"]))
    binaries = [b for b in pc.unique(todo["binary"].cast(pa.string())).to_pylist() if b]
    compile_s = todo.group_by("binary").aggregate([("compile_estimate_s", "max")])["compile_estimate_s_max"]
    exports = len(pc.unique(todo["export"].cast(pa.string())))
    reasons = (
        table.filter(pc.not_equal(unfit, ""))
        .group_by(["model", "unfit"])
        .aggregate([("cell", "count_distinct")])
    )
    return {
        "sweep": plan.header["sweep"],
        "backend": table["backend"][0].as_py(),
        "models": len(pc.unique(table["model"].cast(pa.string()))),
        "rows": fits.num_rows,
        "cells": len(pc.unique(fits["cell"])),
        "slots": len(pc.unique(fits["slot"])),
        "exports": exports,
        "binaries": len(binaries),
        "lots": plan.lots,
        "unfit": [
            {"model": row["model"], "points": row["cell_count_distinct"], "reason": row["unfit"]}
            for row in reasons.to_pylist()
        ],
        "compile_s": float(pc.sum(compile_s).as_py() or 0.0) if binaries else 0.0,
        "device_s": float(pc.sum(todo["estimate_s"]).as_py() or 0.0),
        "storage_bytes": int(
            exports * GRAPH_BYTES + len(binaries) * BINARY_BYTES + todo.num_rows * RESULT_BYTES
        ),
        "notes": [f"{path} takes no point away" for path in plan.header["unused"]],
    }


def as_json(summary: dict[str, Any]) -> str:
    return orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode()


def as_text(summary: dict[str, Any]) -> str:
    """Lines for people; unfit points by reason, the commonest first."""
    sweep = summary["sweep"]
    lines = [
        f"{sweep['name']} (run {sweep['run']}, backend {summary['backend']})",
        f"  models    {summary['models']}",
        f"  cells     {summary['cells']}  in {summary['rows']} rows of the table",
        f"  slots     {summary['slots']}  in {summary['lots']} lots",
        f"  exports   {summary['exports']}",
        f"  binaries  {summary['binaries'] or '-'}"
        + (f"  about {duration(summary['compile_s'])} of compiling" if summary["binaries"] else ""),
        f"  device    about {duration(summary['device_s'])}",
        f"  storage   about {summary['storage_bytes'] / 1e9:.1f} GB",
    ]
    unfit = sorted(summary["unfit"], key=lambda item: -item["points"])
    lines.append(f"  unfit     {sum(item['points'] for item in unfit)}")
    lines += [f"    {item['points']:>4}  {item['model']}: {item['reason']}" for item in unfit[:10]]
    if len(unfit) > 10:
        lines.append(f"    ... and {len(unfit) - 10} more reasons (-o json lists all)")
    lines += [f"  note: {note}" for note in summary["notes"]]
    return "\n".join(lines)
