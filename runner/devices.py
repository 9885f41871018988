"""Lots handed to devices: each device takes the next lot of its queue until none is left, or it is given up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing

from runner import process
from runner.backends import Backend, Bench, Device
from runner.errors import Infrastructure, StoreError
from runner.result import MISSING, Result

# So many slots in a row that the device or host was at fault for: it is given up, the others go on.
STRIKES = 3

# Measures a lot on a device's bench, one result after the other; closing it keeps those it gave.
MeasureLot = Callable[[Bench, Device, int], Generator[Result, None, None]]


def measure_lots(
    backend: Backend, queues: Mapping[Device, deque[int]], measure_lot: MeasureLot
) -> dict[Device, str]:
    """Measure the lots of every device's queue, which devices may share; returns the devices that were
    given up, each with the reason.

    One device is driven from the calling thread, which Ctrl-C interrupts at once, several from a
    thread each. Errors other than a device's own end the work of all.
    """
    if len(queues) == 1:
        answers = [_drive(backend, *only, measure_lot) for only in queues.items()]
    else:
        with ThreadPoolExecutor(len(queues), thread_name_prefix="device") as pool:
            drives = [pool.submit(_drive, backend, *each, measure_lot) for each in queues.items()]
            try:
                wait(drives, return_when=FIRST_EXCEPTION)
                answers = [drive.result() for drive in drives if drive.done()]
                answers = [drive.result() for drive in drives]
            except BaseException:
                for waiting in queues.values():
                    waiting.clear()
                process.stopping.set()
                raise
    return {device: reason for device, reason in zip(queues, answers, strict=True) if reason}


def _drive(backend: Backend, device: Device, waiting: deque[int], measure_lot: MeasureLot) -> str:
    """Measure lots on one device until none is left (an empty text) or it is given up (why)."""
    strikes = 0
    try:
        with backend.open_bench(device) as bench:
            while waiting and not process.stopping.is_set():
                try:
                    lot = waiting.popleft()
                except IndexError:  # another device was quicker
                    break
                # Closed here and not by chance: a traceback would keep it, and what it measured, open.
                with closing(measure_lot(bench, device, lot)) as results:
                    for result in results:
                        strikes = strikes + 1 if _at_fault(result) else 0
                        if strikes == STRIKES:
                            return f"{result.reason}: {result.message}"
    except StoreError:
        raise
    except Infrastructure as error:
        return str(error)
    return ""


def _at_fault(result: Result) -> bool:
    """Whether the device or host was; what was never exported or compiled is not theirs."""
    return result.status == MISSING and result.stage == "run"
