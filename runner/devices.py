"""Devices driven side by side: each measures what it is given until nothing is left, or it is given up."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from typing import Protocol

from runner import process
from runner.backends import Backend, Bench, Device
from runner.errors import Infrastructure, StoreError
from runner.result import MISSING, Result

# So many slots in a row that the device or host was at fault for: it is given up, the others go on.
STRIKES = 3


class Work(Protocol):
    """What devices share; each call is one device's, from its own thread."""

    def wait(self, device: Device) -> bool:
        """Until there is something for it (True), or never will be (False)."""

    def on(self, bench: Bench, device: Device) -> Generator[Result, None, None]:
        """Measure on its bench, one result after the other; closing it keeps those it gave."""

    def give_up(self, device: Device) -> None:
        """Others do what is left of its work."""

    def stop(self) -> None:
        """Nothing further begins."""


def measure_all(backend: Backend, devices: Sequence[Device], work: Work) -> dict[Device, str]:
    """Measure until no work is left; returns the devices that were given up, each with the reason.

    One device is driven from the calling thread, which Ctrl-C interrupts at once, several from a
    thread each. Errors other than a device's own end the work of all.
    """
    try:
        if len(devices) == 1:
            answers = [_drive(backend, devices[0], work)]
        else:
            answers = _side_by_side([partial(_drive, backend, device, work) for device in devices], work)
    finally:
        # Also where all were given up: nothing needs to be built for them any more.
        work.stop()
    return {device: reason for device, reason in zip(devices, answers, strict=True) if reason}


def _side_by_side(drives: Sequence[Callable[[], str]], work: Work) -> list[str]:
    with ThreadPoolExecutor(len(drives), thread_name_prefix="device") as pool:
        running = [pool.submit(drive) for drive in drives]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
            for drive in running:
                if drive.done():
                    drive.result()
            return [drive.result() for drive in running]
        except BaseException:
            process.stopping.set()
            work.stop()
            raise


def _drive(backend: Backend, device: Device, work: Work) -> str:
    """Measure on one device until no work is left (an empty text) or it is given up (why)."""
    reason = ""
    try:
        # Nobody else may use a device that is open: not while it waits for its first binary.
        if work.wait(device):
            with backend.open_bench(device) as bench:
                reason = _measured(bench, device, work)
    except StoreError:
        raise
    except Infrastructure as error:
        reason = str(error)
    if reason:
        work.give_up(device)
    return reason


def _measured(bench: Bench, device: Device, work: Work) -> str:
    strikes = 0
    # Closed here and not by chance: a traceback would keep it, and what it measured, open.
    with closing(work.on(bench, device)) as results:
        for result in results:
            strikes = strikes + 1 if _at_fault(result) else 0
            if strikes == STRIKES:
                return f"{result.reason}: {result.message}"
    return ""


def _at_fault(result: Result) -> bool:
    """Whether the device or host was; what was never exported or compiled is not theirs."""
    return result.status == MISSING and result.stage == "run"
