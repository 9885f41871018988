"""A plan in words and numbers, before anything runs. Pure."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from runner.errors import counted
from runner.plan import Plan
from runner.planfile import can_run, in_a_lot
from runner.progress import duration

# Zstd-compressed result rows and latency samples of one slot, and one model's graph: orders of magnitude.
RESULT_BYTES, GRAPH_BYTES, BINARY_BYTES = 20_000, 120e6, 80e6


def of_plan(plan: Plan) -> dict[str, Any]:
    """What a plan holds: counts, seconds, bytes, and the unfit points with their reasons."""
    header = plan.header
    unfit = _unfit(plan)
    names = plan.columns("model", "backend")
    todo = plan.columns("lot", "export", "binary", "compile_estimate_s", where=in_a_lot)
    compiled = todo.group_by("binary", use_threads=False).aggregate([("compile_estimate_s", "max")])
    compiled = compiled.filter(pc.not_equal(compiled["binary"].cast(pa.string()), ""))
    exports, binaries = len(pc.unique(todo["export"])), compiled.num_rows
    return {
        "sweep": header["sweep"],
        "backend": names["backend"][0].as_py(),
        "models": len(pc.unique(names["model"])),
        "rows": header["wanted"],
        "cells": header["cells"],
        "slots": header["slots"],
        "exports": exports,
        "binaries": binaries,
        "lots": plan.lots,
        "todo": todo.num_rows,
        # The slots of a million rows take 150 MB: they are only read where there is a reason.
        "rows_to_do": todo.num_rows + (_rows_beside(plan) if todo.num_rows < header["wanted"] else 0),
        "unfit": unfit,
        "compile_s": float(pc.sum(compiled["compile_estimate_s_max"]).as_py() or 0.0),
        "device_s": plan.device_s,
        "storage_bytes": int(exports * GRAPH_BYTES + binaries * BINARY_BYTES + todo.num_rows * RESULT_BYTES),
        "notes": [f"{path} takes no point away" for path in header["unused"]],
    }


def _rows_beside(plan: Plan) -> int:
    """Rows that are in no lot themselves, but whose slot is, by another row: objectives share it."""
    beside = plan.columns(
        "slot", "lot", "unfit", where=lambda rows: pc.and_not(can_run(rows), in_a_lot(rows))
    )
    todo = plan.columns("slot", "lot", where=in_a_lot)
    return int(pc.sum(pc.is_in(beside["slot"], todo["slot"].combine_chunks())).as_py() or 0)


def _unfit(plan: Plan) -> list[dict[str, Any]]:
    """Distinct points that can't run, by model and reason."""
    unfit = plan.columns("model", "unfit", "cell", where=lambda rows: pc.invert(can_run(rows)))
    found = unfit.group_by(["model", "unfit"], use_threads=False).aggregate([("cell", "count_distinct")])
    return [
        {"model": row["model"], "points": row["cell_count_distinct"], "reason": row["unfit"]}
        for row in found.to_pylist()
    ]


def as_json(summary: dict[str, Any]) -> str:
    return orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode()


def as_text(summary: dict[str, Any]) -> str:
    """Lines for people; unfit points by reason, the commonest first."""
    sweep = summary["sweep"]
    lines = [
        f"{sweep['name']} (run {sweep['run']}, backend {summary['backend']})",
        f"  models    {summary['models']}",
        f"  cells     {summary['cells']}  in {summary['rows']} rows of the table",
        f"  slots     {summary['slots']}  in {counted(summary['lots'], 'lot')}",
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
