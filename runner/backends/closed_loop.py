"""A closed loop of inferences and how its windows are cut. Pure apart from the clock that `drive` reads.

An instance executes one request at a time and `set_size` are outstanding always: the moment
the oldest completes, a new one is submitted. Request k is therefore submitted when request
k - set_size completes, so completion times alone hold every latency,

    latency[k] = completed[k] - completed[k - set_size],

the wait in the queue included, and the loop has nothing to do but read the clock.
"""

from __future__ import annotations

import itertools
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.backends import Window

Times = npt.NDArray[np.int64]

# A window shorter than this many whole requests of an instance tells nothing about its latency.
MIN_WHOLE_REQUESTS = 3


def drive(
    infer: Callable[[Any], object],
    requests: Sequence[Any],
    until_ns: int,
    at_least: int = 1,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> array[int]:
    """Run `requests` round and round until `until_ns` has passed and `at_least` are done.

    Returns the start, then each completion, in ns of a clock that all processes of a host
    share. The last completion is the first after `until_ns`, so that a window ending there
    has a completion on either side of its edge.
    """
    completed = array("q", [clock()])
    note = completed.append
    for request in itertools.cycle(requests):
        infer(request)
        now = clock()
        note(now)
        # Nearly always decided by the first comparison, so the second costs nothing.
        if now >= until_ns and len(completed) > at_least:
            break
    return completed


def whole_latencies(completed: Times, set_size: int, opened: int, closed: int) -> npt.NDArray[np.float64]:
    """Latencies in seconds of the requests submitted and completed within [opened, closed].

    Requests cut by either edge are left out alike. The first `set_size` requests were
    submitted at the start of the loop, before any window.
    """
    submitted, done = completed[:-set_size], completed[set_size:]
    inside = (submitted >= opened) & (done <= closed)
    return np.asarray((done[inside] - submitted[inside]) * 1e-9, dtype=np.float64)


def inferences_between(completed: Times, opened: int, closed: int) -> float:
    """Inferences done within [opened, closed], those in execution at an edge counted in part.

    The count of completions read off as a piecewise linear function of time at both edges.
    Of the estimators at hand it is the one without bias and without steps: counting whole
    completions is right on average but off by up to one, a third for a slow model;
    (n - 1) / (last - first) leaves out the two gaps at the edges, which are longer than
    others on average (an edge hits long gaps more often), and so reads high. Here what is
    credited at one edge has the same mean as what is debited at the other, and a steady
    device gives the exact rate whatever the phase.
    """
    count = np.interp([opened, closed], completed, np.arange(len(completed), dtype=np.float64))
    return float(count[1] - count[0])


def cut(instances: Sequence[Times], *, set_size: int, batch: int, edges: Sequence[int]) -> list[Window]:
    """The windows between neighbouring `edges` (ns), common to all instances.

    Throughput is the sum over instances; latencies are those of all instances.
    """
    windows = []
    for opened, closed in itertools.pairwise(edges):
        done = sum(inferences_between(times, opened, closed) for times in instances)
        latencies = [whole_latencies(times, set_size, opened, closed) for times in instances]
        seconds = (closed - opened) * 1e-9
        windows.append(Window(done * batch / seconds, np.concatenate(latencies), seconds))
    return windows


def fewest_whole(instances: Sequence[Times], *, set_size: int, edges: Sequence[int]) -> int:
    """Whole requests of the instance and window that have the fewest."""
    return min(
        len(whole_latencies(times, set_size, opened, closed))
        for times in instances
        for opened, closed in itertools.pairwise(edges)
    )


def window_needed_s(service_s: float, set_size: int) -> float:
    """Shortest window in which an instance taking `service_s` per inference completes
    `MIN_WHOLE_REQUESTS` whole requests: the first `set_size` to complete were submitted before it opened."""
    return service_s * (set_size + MIN_WHOLE_REQUESTS)
