"""One sweep on one machine: plan, export, compile, measure, merge, in rounds until nothing is wanted.

The five functions are here, and a cluster's pods call the same ones (`pod`): `plan_round`; `export` and
`compile_` (`build`); `measure` (`lots`); `merge_`. Everything of the sweep that lasts is in the store;
resume is planning anew. Deciding is elsewhere (`admission`, `cells`, `plan`, `merge`), this acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from runner import admission, devices, ledger, merge, plan
from runner.build import Made, compile_, export, report_of, requests_of
from runner.errors import (
    EXIT_INFRASTRUCTURE,
    EXIT_OK,
    EXIT_SLOTS_FAILED,
    counted,
)
from runner.lots import Tally, measure
from runner.plan import Plan
from runner.result import FAILED, INFEASIBLE, MISSING, OK
from runner.store import Store
from runner.stored import read_results, stored_plan
from runner.workplace import Reporter, Workplace, targets_here

__all__ = [
    "Made", "Merged", "Outcome", "Reporter", "Tally", "Workplace", "compile_", "export", "measure", "merge_",
    "plan_round", "read_results", "report_of", "requests_of", "run", "stored_plan",
]  # fmt: skip


@dataclass(frozen=True)
class Merged:
    """A published table, its folder in the store, and the device seconds by use (`ledger`)."""

    table: pa.Table
    folder: str
    device_s: Mapping[str, float]
    overhead_s: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """What a run ended with. `trouble`: why it ended before every slot had been tried."""

    table: pa.Table
    table_folder: str
    device_s: Mapping[str, float]
    overhead_s: Mapping[str, float]
    plan: Plan
    measured: int
    reused: int
    trouble: str = ""
    exit_code: int = EXIT_OK


def run(place: Workplace) -> Outcome:
    """Work until every slot has a final result or the rounds are used up. Raises what stops a sweep."""
    place.root.check()
    place = replace(place, targets=targets_here(place.sweep, place.devices))
    rounds = place.sweep.spec.limits.rounds
    past = merge.past_of(read_results(place.home))
    measured, reused, trouble, exit_code = 0, 0, "", EXIT_OK
    for number in range(1, rounds + 1):
        current = plan_round(place, number, past)
        admission.require_budget(place.sweep, current)
        place.home.put_new(plan.key(current.digest), current.data)
        if number == 1:
            reused = len(set(current.columns("slot")["slot"].to_pylist()) & past.keys())
        if not current.lots:
            break
        lots = current.by_lot()
        tasks = [task for some in lots.values() for task in some]
        place.reporter.say(
            f"round {number}: {counted(len(tasks), 'slot')} in {counted(len(lots), 'lot')},"
            f" plan {current.digest[:12]}"
        )
        made = compile_(place, tasks, export(place, current.exports()))
        canary = [task for lot in range(current.canary) for task in lots[lot]]
        tally = measure(place, current, made, lots, canary=canary)
        measured += tally.count(OK, INFEASIBLE, FAILED, MISSING)
        place = replace(place, devices=[d for d in place.devices if d not in tally.given_up])
        for device, reason in tally.given_up.items():
            place.reporter.say(
                f"device {device.id} is given up, {devices.STRIKES} failures in a row: {reason}"
            )
        if tally.hopeless:
            trouble = f"stopped, all {len(canary)} slots of the first lots failed: {tally.first_bad}"
            exit_code = EXIT_SLOTS_FAILED
            break
        if not place.devices:
            trouble, exit_code = "no device is left to measure on", EXIT_INFRASTRUCTURE
            break
        past = merge.past_of(read_results(place.home))
        if not any(plan.still_wanted(past.get(task.slot), rounds) for task in tasks):
            break
    merged = merge_(place.home, current)
    counts = merge.counts(merged.table)
    if not exit_code and counts[FAILED] + counts[INFEASIBLE] + counts[MISSING]:
        exit_code = EXIT_SLOTS_FAILED
    return Outcome(
        merged.table, merged.folder, merged.device_s, merged.overhead_s, current, measured, reused, trouble, exit_code
    )  # fmt: skip


def plan_round(place: Workplace, number: int, past: Mapping[str, plan.Past]) -> Plan:
    return admission.make_plan(
        place.sweep,
        place.backend,
        place.lut_table,
        number,
        past,
        targets=place.targets,
        capacity=place.capacity,
    )


def merge_(
    home: Store,
    current: Plan,
    results: merge.Results | None = None,
    unreached: Mapping[str, str] | None = None,
) -> Merged:
    """Merge `results`, by default all that the store holds, into the table of `current` and make it the
    sweep's current one. The rows of `results` are used up.

    `unreached` leads from nodes that nobody could reach to the reason.
    """
    # Brings pandas, which takes seconds to import and which measuring can do without.
    from runner import tables

    results = results or read_results(home)
    device_s, overhead_s = ledger.device_seconds(results), ledger.overhead_seconds(results)
    table = merge.merge(current, results, unreached)
    facts = {
        "device_s": dict(device_s),
        "overhead_s": dict(overhead_s),
        "unreached": dict(unreached or {}),
    }
    folder = tables.publish(home, current, results, table, facts)
    return Merged(table, folder, device_s, overhead_s)
