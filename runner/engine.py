"""One sweep on one machine: plan, export, compile, measure, merge, in rounds until nothing is wanted.

The five functions are here, and a cluster's pods call the same ones (`pod`): `plan_round`; `export` and
`compile_` (`build`); `measure` (`lots`); `merge_`. Everything of the sweep that lasts is in the store;
resume is planning anew. Deciding is elsewhere (`admission`, `cells`, `plan`, `merge`), this acts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from runner import admission, again, devices, inflight, ledger, merge, plan, schedule, spool, store_check
from runner.build import Made, building, compile_, export, report_of, requests_of
from runner.errors import (
    EXIT_INFRASTRUCTURE,
    EXIT_OK,
    EXIT_SLOTS_FAILED,
    counted,
)
from runner.inflight import Attempt
from runner.lots import Canary, Tally, as_scheduled, cards, measure
from runner.overlap import Board
from runner.plan import Plan, Task
from runner.result import FAILED, INFEASIBLE, MISSING, OK
from runner.schedule import Schedule
from runner.segments import Results
from runner.store import Store
from runner.stored import keep_plan, read_results, stored_plan
from runner.suspects import in_turn, made_alone
from runner.workplace import Reporter, Workplace, targets_here

__all__ = [
    "History", "Made", "Merged", "Outcome", "Reporter", "Tally", "Workplace", "compile_", "export", "history",
    "measure", "merge_", "plan_round", "read_results", "report_of", "requests_of", "run", "stored_plan",
]  # fmt: skip


@dataclass(frozen=True)
class History:
    """What the store knows of each slot that was tried or asked for again, who has asked just now, and the
    results it knows that from."""

    past: Mapping[str, plan.Past]
    asked: Sequence[again.Request]
    results: Results


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
    store_check.check(place.root)
    place.root.tell(place.reporter.say)
    spool.adopt(place.home, place.reporter.say)
    place = replace(place, targets=targets_here(place.sweep, place.devices))
    with _attempt(place) as attempt:
        return _rounds(replace(place, attempt=attempt))


def _attempt(place: Workplace) -> Attempt:
    folder = place.cache / "inflight"
    try:
        return inflight.here(place.home, place.writer, folder)
    except OSError as error:
        why = error.strerror or str(error)
        place.reporter.say(
            f"{folder} can't be written ({why}): a cell that ends aicsweep is not told from others"
        )
        return Attempt()


def _rounds(place: Workplace) -> Outcome:
    rounds = place.sweep.spec.limits.rounds
    known = history(place)
    measured, reused, trouble, exit_code = 0, 0, "", EXIT_OK
    for number in range(1, rounds + 1):
        current = plan_round(place, number, known.past)
        admission.require_budget(place.sweep, current)
        keep_plan(place.home, current)
        if number == 1:
            slots = set(current.columns("slot")["slot"].to_pylist()) & known.past.keys()
            reused = sum(not plan.still_wanted(known.past[slot], rounds) for slot in slots)
        if not current.lots:
            break
        # Not held while measuring: a million results are half a gigabyte.
        del known
        lots = current.by_lot()
        tally = _round(place, number, current, lots)
        measured += tally.count(OK, INFEASIBLE, FAILED, MISSING)
        known = history(place)
        place = replace(place, devices=[d for d in place.devices if d not in tally.given_up])
        trouble, exit_code = _trouble(place, tally)
        wanted = (
            plan.still_wanted(known.past.get(task.slot), rounds) for some in lots.values() for task in some
        )
        if trouble or not any(wanted):
            break
    merged = merge_(place.home, current, known.results)
    return Outcome(
        merged.table, merged.folder, merged.device_s, merged.overhead_s, current, measured, reused, trouble,
        exit_code or _exit_code(merged.table),
    )  # fmt: skip


def _round(place: Workplace, number: int, current: Plan, lots: Mapping[int, Sequence[Task]]) -> Tally:
    """Build and measure what a round's plan wants, and say what is going on."""
    say = place.reporter.say
    slots = counted(sum(map(len, lots.values())), "slot")
    say(f"round {number}: {slots} in {counted(len(lots), 'lot')}, plan {current.digest[:12]}")
    began = time.monotonic()
    tally = _in_turns(place, current, lots)
    took_s = (time.monotonic() - began) * len(place.devices)
    say(f"devices were at work {tally.busy_s / took_s:.0%} of the round")
    for device, reason in tally.given_up.items():
        say(f"device {device.id} is given up, {devices.STRIKES} failures in a row: {reason}")
    return tally


def _trouble(place: Workplace, tally: Tally) -> tuple[str, int]:
    """Why a further round would be of no use, and the exit code; an empty text where it may be."""
    if tally.hopeless:
        failures = counted(tally.count(FAILED), "failure")
        return f"stopped, nothing worked in the first lots ({failures}): {tally.first_bad}", EXIT_SLOTS_FAILED
    if not place.devices:
        return "no device is left to measure on", EXIT_INFRASTRUCTURE
    return "", EXIT_OK


def _exit_code(table: pa.Table) -> int:
    counts = merge.counts(table)
    not_done = counts[FAILED] + counts[INFEASIBLE] + counts[MISSING] + merge.count_wanted_again(table)
    return EXIT_SLOTS_FAILED if not_done else EXIT_OK


def history(place: Workplace) -> History:
    """As the store has it by now. Requests of the sweep that it does not know choose their slots, once. Raises
    BadInput, StoreError."""
    results = read_results(place.home)

    @functools.cache
    def table() -> pa.Table:
        # Merging takes the rows out of the results it is given.
        return merge.merge(plan_round(place, 1, merge.past_of(results)), replace(results))

    newest = pc.max(results.table["epoch"]).as_py() or 0
    requests = again.settle(place.home, place.sweep.spec.again, table, newest)
    for request in requests.new:
        what = counted(len(request.slots), "slot") if request.slots else "nothing"
        place.reporter.say(f"{what} to be measured again where {request.where}")
    return History(merge.past_of(results, again.epochs(requests.every)), requests.new, results)


def _in_turns(place: Workplace, current: Plan, lots: Mapping[int, Sequence[Task]]) -> Tally:
    """Everything at once, but for what earlier runs may have died with: that comes last, a slot at a time."""
    canary = Canary(task.slot for lot in range(current.canary) for task in lots[lot])
    tally = Tally()
    for turn in in_turn(lots, place.attempt.seen):
        here = replace(place, devices=[d for d in place.devices if d not in tally.given_up])
        if tally.hopeless or not here.devices:
            break
        tally.add(build_and_measure(here, current, turn, canary))
    return tally


def build_and_measure(
    place: Workplace, current: Plan, lots: Mapping[int, Sequence[Task]], canary: Canary
) -> Tally:
    """Export, compile and measure what a plan still wants: cards begin as soon as their binaries are there, where
    the host has cores for both, nobody asked for a silent one, and no build is suspected to end us."""
    backend, spec = place.backend, place.sweep.spec
    tasks = [task for some in lots.values() for task in some]
    alone = made_alone(tasks, place.attempt.seen)
    may_share = backend.COMPILES_ON == "host" and spec.measure.neighbours != "host-idle" and not alone
    builders = schedule.builders(place.cores, len(place.devices), may_share=may_share)
    board = Board(
        Schedule(
            as_scheduled(place, lots, urgent=current.canary),
            cards(place),
            builders,
            lambda task: backend.estimate(task.cell).compile_s,
            alone,
        )
    )
    beside = f"up to {counted(builders.at_once, 'compiler')}" if builders.beside else ""
    with building(place, tasks, board, builders.at_once) as made:
        return measure(place, current, made, lots, canary=canary, board=board, beside=beside)


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
    results: Results | None = None,
    unreached: Mapping[str, str] | None = None,
) -> Merged:
    """Merge `results`, by default all that the store holds, into the table of `current` and make it the
    sweep's current one. The rows of `results` are used up.

    `unreached` leads from nodes that nobody could reach to the reason.
    """
    # Brings pandas, which takes seconds to import and which measuring can do without.
    from runner import tables

    results = results or read_results(home)
    best = merge.winners(results)
    device_s, overhead_s = ledger.device_seconds(results, best), ledger.overhead_seconds(results, best)
    table = merge.merge(current, results, unreached, best)
    facts = {
        "device_s": dict(device_s),
        "overhead_s": dict(overhead_s),
        "unreached": dict(unreached or {}),
    }
    folder = tables.publish(home, current, results, table, facts)
    return Merged(table, folder, device_s, overhead_s)
