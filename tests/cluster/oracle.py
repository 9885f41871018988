"""What is right: the table of an undisturbed run, and a status that says only what is so."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner import engine, tables
from runner.store import NotFound, open_store
from tests import samples

Sweep = Mapping[str, Any]

# What a table says of when, where and by whom it was measured, not of what was found.
_CIRCUMSTANCES = [
    "started_at", "device_s", "plan", "writer", "node", "host", "round", "lot", "epoch"
]  # fmt: skip


def results(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table with what was found only, in an order of their own."""
    rows = table.drop_columns(_CIRCUMSTANCES).to_pylist()
    # NaN is not itself.
    plain = [{name: None if value != value else value for name, value in row.items()} for row in rows]
    return sorted(
        plain, key=lambda row: [str(row[name]) for name in ("slot", "model", "objective", "target")]
    )


def undisturbed(**spec: Any) -> list[dict[str, Any]]:
    """What the local engine finds: the oracle."""
    return _undisturbed(json.dumps({"backend": "fake", "models": ["resnet50"], **spec}))


@functools.cache
def _undisturbed(spec: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        place = samples.place(Path(folder), samples.sweep(**json.loads(spec)))
        return results(engine.run(place).table)


def of_its_spec(sweep: Sweep) -> Mapping[str, Any]:
    """Its status, if that speaks of the spec that it has; else nothing."""
    status: Mapping[str, Any] = sweep.get("status", {})
    return status if status and status.get("observedGeneration") == sweep["metadata"]["generation"] else {}


def same_spec(one: Sweep, other: Sweep) -> bool:
    return all(one["metadata"][name] == other["metadata"][name] for name in ("uid", "generation"))


def is_true(status: Mapping[str, Any], condition: str) -> bool:
    return any(c["type"] == condition and c["status"] == "True" for c in status.get("conditions", ()))


def reason(status: Mapping[str, Any], condition: str) -> str:
    return next((c["reason"] for c in status.get("conditions", ()) if c["type"] == condition), "")


def differences(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[str]:
    """In words; nothing where both tables say the same."""
    if [row["slot"] for row in found] != [row["slot"] for row in wanted]:
        return [f"{len(found)} rows in place of {len(wanted)}, or others"]
    return [
        f"{row['model']} {row['cores']} {name}: {row[name]!r} in place of {want[name]!r}"
        for row, want in zip(found, wanted, strict=True)
        for name in row
        if row[name] != want[name]
    ]


def find_lies(before: Sweep | None, now: Sweep) -> Iterator[str]:
    """What the status of `now` says that is not so, or takes back what `before`, of the same spec, had said."""
    status, was = of_its_spec(now), of_its_spec(before or {})
    if not status:
        return
    if is_true(status, "Complete"):
        home = open_store(status["tableUrl"].rpartition("/tables/")[0])
        try:
            _, manifest = tables.read_current(home)
        except NotFound:
            yield "Complete before the table was there"
        else:
            done = sum(manifest.counts[name] for name in ("ok", "failed", "infeasible"))
            if status["cells"]["done"] != done:
                yield f"Complete with {status['cells']['done']} done, the table has {done}"
    if status.get("cells", {}).get("done", 0) < was.get("cells", {}).get("done", 0):
        yield f"done fell from {was['cells']} to {status.get('cells')}"
    for name in ("Complete", "Failed"):
        if is_true(was, name) and not is_true(status, name):
            yield f"{name} was taken back"
    if is_true(status, "Complete") and is_true(status, "Failed"):
        yield "Complete and Failed"
