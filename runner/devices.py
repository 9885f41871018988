"""Lots handed to devices: each device takes the next lot until none is left, or until it is given up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing

from runner import process
from runner.backends import Backend, Bench, Device
from runner.errors import Infrastructure, StoreError
from runner.result import MISSING, Result

# So many slots in a row that the device or host was at fault for: it is given up, the others go on.
STRIKES = 3

# Measures a lot on a bench, one result after the other; closing it keeps those it gave.
MeasureLot = Callable[[Bench, int], Generator[Result, None, None]]


def measure_lots(
    backend: Backend, devices: Sequence[Device], lots: Iterable[int], measure_lot: MeasureLot
) -> dict[Device, str]:
    """Measure all lots; returns the devices that were given up, each with the reason.

    One device is driven from the calling thread, which Ctrl-C interrupts at once, several from a
    thread each. Errors other than a device's own end the work of all.
    """
    waiting = deque(lots)
    if len(devices) == 1:
        answers = [_drive(backend, devices[0], waiting, measure_lot)]
    else:
        with ThreadPoolExecutor(len(devices), thread_name_prefix="device") as pool:
            drives = [pool.submit(_drive, backend, device, waiting, measure_lot) for device in devices]
            try:
                wait(drives, return_when=FIRST_EXCEPTION)
                answers = [drive.result() for drive in drives if drive.done()]
                answers = [drive.result() for drive in drives]
            except BaseException:
                waiting.clear()
                process.stopping.set()
                raise
    return {device: reason for device, reason in zip(devices, answers, strict=True) if reason}


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
                with closing(measure_lot(bench, lot)) as results:
                    for result in results:
                        strikes = strikes + 1 if result.status == MISSING else 0
                        if strikes == STRIKES:
                            return f"{result.reason}: {result.message}"
    except StoreError:
        raise
    except Infrastructure as error:
        return str(error)
    return ""
