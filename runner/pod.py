"""One stage of a sweep in a pod: the environment says what, exit code and termination message say how it went.

    environment --> Orders --> one of the engine's five functions --> message, exit code

The contract is docs/pods.md. Deciding and working is the engine's; here it is only called for one export,
one compile task or one lot, with what other pods left in the store.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from runner import (
    attempts,
    backends,
    engine,
    handover,
    inflight,
    merge,
    overview,
    process,
    scratch,
    spool,
    store_check,
    suspects,
)
from runner.backends import Capacity
from runner.build import Answers, Made
from runner.errors import (
    EXIT_BAD_INPUT,
    EXIT_INFRASTRUCTURE,
    EXIT_OK,
    EXIT_SLOTS_FAILED,
    EXIT_TERMINATED,
    INTERNAL,
    AicsweepError,
    BadInput,
    Infrastructure,
    Interrupted,
    PointFailed,
    Problem,
)
from runner.plan import Plan, Task
from runner.pod_orders import TERMINATION_LOG, Orders, read_orders, variable
from runner.progress import Lines
from runner.result import INFEASIBLE, MISSING, OK
from runner.spec import ANY, COMBINED, EVERY_DEVICE, Sweep
from runner.store import Store, open_store
from runner.stored import keep_plan
from runner.sweepfile import sweep_from_object
from runner.workplace import Workplace

Message = Mapping[str, Any]
# The kubelet keeps 4 KiB of a message, and 12 of all of a pod's containers.
MESSAGE_BYTES = 1024


def main(stage: str, environment: Mapping[str, str]) -> int:
    """Do one stage and return the exit code; a termination message is always left."""
    signal.signal(signal.SIGTERM, _asked_to_end)
    try:
        code, message = _outcome(stage, environment)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except KeyboardInterrupt:
        code, message = EXIT_TERMINATED, _error("asked to end; what was done by then is kept", "terminated")
    _leave(message, Path(environment.get(TERMINATION_LOG) or "/dev/termination-log"))
    return code


def _outcome(stage: str, environment: Mapping[str, str]) -> tuple[int, Message]:
    """Exit code and message of a stage, whatever happens in it but SIGTERM."""
    try:
        orders = read_orders(stage, environment)
        return STAGES[stage](orders, open_store(orders.store))
    except Interrupted as error:
        raise KeyboardInterrupt from error
    except BadInput as error:
        return EXIT_BAD_INPUT, _error(str(error), "bad-input")
    except AicsweepError as error:
        return EXIT_INFRASTRUCTURE, _error(str(error), getattr(error, "reason", "infrastructure"))
    except Exception as error:
        # Ours to mend, yet another pod may get through.
        traceback.print_exc()
        return EXIT_INFRASTRUCTURE, _error(f"{type(error).__name__}: {error}", INTERNAL)


def plan_(orders: Orders, root: Store) -> tuple[int, Message]:
    """Plan a round from what the store holds by now."""
    sweep = sweep_from_object(orders.sweep, source="the Sweep")
    store_check.check(root)
    place = replace(_place(orders, root, sweep), targets=orders.targets_of(sweep))
    history = engine.history(place)
    made = engine.plan_round(place, orders.round, history.past)
    keep_plan(place.home, made)
    summary, sizes = overview.of_plan(made), made.sizes()
    message = {
        "plan": made.digest,
        "round": made.round,
        **{name: summary[name] for name in ("lots", "exports", "binaries", "cells", "slots", "todo")},
        "canary": made.canary,
        "wanted": summary["rows_to_do"],
        "unfit": sum(item["points"] for item in summary["unfit"]),
        "most_slots_a_lot": max(sizes.values(), default=0),
        "device_s": round(summary["device_s"], 3),
        "compile_s": round(summary["compile_s"], 3),
        "lots_per_node": made.lots_per_node,
    }
    if history.asked:
        message["again"] = len({slot for request in history.asked for slot in request.slots})
    if sweep.spec.placement != ANY and sizes:
        with_targets = {**message, "targets": made.stretches(sizes)}
        # So many nodes that it does not fit: the layout follows from `lots_per_node`.
        return EXIT_OK, with_targets if len(orjson.dumps(with_targets)) <= MESSAGE_BYTES else message
    return EXIT_OK, message


def export(orders: Orders, root: Store) -> tuple[int, Message]:
    """Make one export of the plan."""
    current = engine.stored_plan(root.at(orders.prefix), orders.plan)
    place = _place(orders, root, current.sweep)
    requests = current.exports()
    _check_number(orders.number, len(requests), "exports")
    item = list(requests)[orders.number]
    with inflight.begin(place.home, orders.plan, f"export-{orders.number:05d}", orders.pod) as attempt:
        answers = engine.export(replace(place, attempt=attempt), {item: requests[item]})
        handover.put_exports(place.home, orders.plan, answers)
    return _answered(answers)


def compile_(orders: Orders, root: Store) -> tuple[int, Message]:
    """Make the binaries of one compile task of the plan."""
    current = engine.stored_plan(root.at(orders.prefix), orders.plan)
    _check_number(orders.number, current.lots, "lots")
    tasks = current.to_compile(orders.number)
    if not tasks:
        return EXIT_OK, {"done": 0, "failed": 0}
    place = _place(orders, root, current.sweep)

    def keep(answers: Answers) -> None:
        handover.put_binaries(place.home, orders.plan, orders.number, answers)

    with inflight.begin(place.home, orders.plan, f"compile-{orders.number:05d}", orders.pod) as attempt:
        exports = handover.exports_for(place.home, current, tasks)
        made = engine.compile_(replace(place, attempt=attempt), tasks, exports, keep)
        keep(made.binaries)
    return _answered(made.binaries)


def measure(orders: Orders, root: Store) -> tuple[int, Message]:
    """Measure what a lot of the plan still lacks."""
    current, number = engine.stored_plan(root.at(orders.prefix), orders.plan), orders.number
    _check_number(number, current.lots, "lots")
    tasks = current.lot(number)
    if not tasks:
        return EXIT_OK, {"done": 0, "failed": 0}
    _check_node(orders.node, current.node(number), number)
    place = _with_devices(_place(orders, root, current.sweep))
    spool.adopt(place.home, place.reporter.say)
    tallies = []
    with inflight.begin(place.home, orders.plan, f"{number:05d}", orders.pod) as attempt:
        known = attempts.known(place.home, f"results/{orders.plan}/{number:05d}") if attempt.earlier else {}
        place = replace(place, attempt=attempt)
        for some in suspects.in_groups([task for task in tasks if task.slot not in known], attempt.seen):
            made = _made(orders, place, current, some)
            tallies.append(engine.measure(place, current, made, {number: some}))
        good = sum(tally.count(OK, INFEASIBLE) for tally in tallies)
        good += sum(status in (OK, INFEASIBLE) for status in known.values())
        _check_devices(tallies, obtained=good > 0)
    message = {"done": good, "failed": len(tasks) - good}
    if good:
        return EXIT_OK, message
    why = next((tally.first_bad for tally in tallies), "as an earlier attempt found")
    return EXIT_SLOTS_FAILED, message | _error(
        f"all {len(tasks)} slots of lot {number} failed: {why}", "all-failed"
    )


def merge_(orders: Orders, root: Store) -> tuple[int, Message]:
    """Publish the table of the plan."""
    current = engine.stored_plan(root.at(orders.prefix), orders.plan)
    place = _place(orders, root, current.sweep)
    attempts.record_deadly(place, current)
    results = engine.read_results(place.home)
    wanted = merge.count_wanted(current, results, orders.unreached)
    merged = engine.merge_(place.home, current, results, orders.unreached)
    return EXIT_OK, {
        "table": merged.folder,
        "counts": merge.counts(merged.table),
        "wanted": wanted,
        "device_s": {use: round(seconds, 3) for use, seconds in merged.device_s.items()},
    }


STAGES: Mapping[str, Callable[[Orders, Store], tuple[int, Message]]] = {
    "plan": plan_,
    "export": export,
    "compile": compile_,
    "measure": measure,
    "merge": merge_,
}


def _asked_to_end(number: int, frame: FrameType | None) -> None:
    """SIGTERM: whatever runs is interrupted, once, and keeps what it has."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    process.stopping.set()
    raise KeyboardInterrupt


def _place(orders: Orders, root: Store, sweep: Sweep) -> Workplace:
    backend = backends.load(sweep.spec.backend)
    lines = Lines()
    root.tell(lines.say)
    # Where the CPU is the device, that of this pod says nothing of a measure pod's.
    elsewhere = orders.cores and backend.COMPILES_ON == "target"
    return Workplace(
        sweep,
        backend,
        root,
        orders.prefix,
        scratch.artifact_cache(),
        lines,
        node=orders.node,
        writer=orders.pod,
        capacity=Capacity(orders.cores, "cores of a measure pod") if elsewhere else None,
    )


def _with_devices(place: Workplace) -> Workplace:
    """Here are the devices of this pod: all of them if each has slots of its own, otherwise one."""
    devices = place.backend.devices("all")
    return replace(place, devices=devices if place.sweep.spec.placement == EVERY_DEVICE else devices[:1])


def _check_number(number: int, count: int, what: str) -> None:
    if number >= count:
        where = f"environment variables {variable('first')} + {variable('index')}"
        raise BadInput([Problem(where, f"are {number}; the plan has {count} {what}, from 0")])


def _check_node(here: str, wanted: str, number: int) -> None:
    if wanted and here != wanted:
        raise Infrastructure(
            f"lot {number} is to be measured on node {wanted}, this pod runs on {here or 'one without a name'}",
            remedy=f"its Job must be pinned to the node; {variable('node')} tells the name",
            reason="wrong-node",
        )


def _check_devices(tallies: Sequence[engine.Tally], *, obtained: bool) -> None:
    """Raises Infrastructure where a device is to blame, so that another pod tries the rest elsewhere."""
    for tally in tallies:
        for device, reason in tally.given_up.items():
            raise Infrastructure(f"device {device.id} is given up: {reason}", reason="device-given-up")
        if not obtained and tally.counts[MISSING, "run"]:
            raise Infrastructure(f"nothing was obtained: {tally.first_bad}", reason="device-error")


def _made(orders: Orders, place: Workplace, current: Plan, tasks: Sequence[Task]) -> Made:
    """What other pods made for the tasks, or this one by itself."""
    if orders.execution != COMBINED:
        return handover.made_for(place.home, current, tasks)
    return engine.compile_(place, tasks, engine.export(place, engine.requests_of(tasks)))


def _answered(answers: Answers) -> tuple[int, Message]:
    """Exit code and message for what was to be made: 1 if each of it failed."""
    failures = [answer for answer in answers.values() if isinstance(answer, PointFailed)]
    message: Message = {"done": len(answers) - len(failures), "failed": len(failures)}
    if not failures or len(failures) < len(answers) or any(f.verdict == INFEASIBLE for f in failures):
        return EXIT_OK, message
    return EXIT_SLOTS_FAILED, {**message, **_error(f"{failures[0]}", failures[0].reason)}


def _error(text: str, reason: str) -> dict[str, str]:
    return {"error": text, "reason": reason}


def _leave(message: Message, path: Path) -> None:
    """Write the termination message, at most 1 KiB of JSON; the log has it in full."""
    if "error" in message:
        print(f"aicsweep: {message['error']}", file=sys.stderr)
    data = encoded(message)
    print(data.decode(), flush=True)
    try:
        path.write_bytes(data)
    except OSError as error:
        print(f"aicsweep: no termination message in {path}: {error.strerror}", file=sys.stderr)


def encoded(message: Message) -> bytes:
    """The message as JSON of at most `MESSAGE_BYTES`; the end of an error's text is left out if need be."""
    data = orjson.dumps(message)
    text = str(message.get("error", ""))
    while len(data) > MESSAGE_BYTES and text:
        text = text[: len(text) - max(1, (len(data) - MESSAGE_BYTES) // 6)]
        data = orjson.dumps({**message, "error": f"{text}..."})
    return data
