from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.backends.closed_loop import cut, drive, fewest_whole, inferences_between, whole_latencies

S = 1_000_000_000


def times(*seconds: float) -> np.ndarray:
    return np.array([round(second * S) for second in seconds], dtype=np.int64)


def ticking(step: int):
    counter = itertools.count(0, step)
    return lambda: next(counter)


def test_the_loop_ends_with_the_first_completion_past_the_limit():
    seen: list[str] = []
    completed = drive(seen.append, ["a", "b", "c"], until_ns=35, clock=ticking(10))
    assert list(completed) == [0, 10, 20, 30, 40]
    assert seen == ["a", "b", "c", "a"]


def test_the_loop_runs_as_many_as_asked_even_past_the_limit():
    assert len(drive(lambda _: None, ["a"], until_ns=0, at_least=5, clock=ticking(10))) == 1 + 5


def queue_of(gaps: list[int], set_size: int) -> list[tuple[int, int]]:
    """(submitted, completed) of each request by playing the queue: the plain way that the loop leaves out."""
    now, queue, done = 0, [0] * set_size, []
    for gap in gaps:
        now += gap
        done.append((queue.pop(0), now))
        queue.append(now)
    return done


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60),
    st.integers(1, 12),
    st.integers(0, 500),
    st.integers(1, 1000),
)
def test_latencies_are_those_of_a_queue_without_the_requests_cut_by_an_edge(gaps, set_size, opened, length):
    completed = np.array([0, *itertools.accumulate(gaps)], dtype=np.int64)
    closed = opened + length
    expected = [
        (done - submitted) * 1e-9
        for submitted, done in queue_of(gaps, set_size)[set_size - 1 :]
        if submitted >= opened and done <= closed
    ]
    assert list(whole_latencies(completed, set_size, opened, closed)) == pytest.approx(expected)


@given(st.floats(0, 1), st.integers(1, 40))
def test_a_steady_device_has_its_exact_rate_at_any_phase(phase, length):
    completed = times(*[0.5 * index for index in range(100)])
    opened = round((1 + phase) * S)
    assert inferences_between(completed, opened, opened + length * S) == pytest.approx(2.0 * length)


def test_an_unsteady_device_is_read_without_bias_unlike_by_gaps_inside_the_window():
    source = np.random.default_rng(3)
    interpolated, inner = [], []
    for _ in range(4000):
        completed = np.cumsum(source.exponential(1.0, 60))
        nanoseconds = (completed * S).astype(np.int64)
        interpolated.append(inferences_between(nanoseconds, 20 * S, 30 * S) / 10)
        inside = completed[(completed >= 20) & (completed <= 30)]
        if len(inside) > 2:
            inner.append((len(inside) - 1) / (inside[-1] - inside[0]))
    assert np.mean(interpolated) == pytest.approx(1.0, abs=0.02)
    assert np.mean(inner) > 1.08


def test_windows_are_cut_at_common_edges_and_summed_over_instances():
    fast, slow = times(*np.arange(0, 10, 0.25)), times(*np.arange(0, 10, 0.5))
    first, second = cut([fast, slow], set_size=1, batch=4, edges=[1 * S, 3 * S, 7 * S])
    assert (first.throughput_images_s, first.duration_s) == (pytest.approx((4 + 2) * 4), 2.0)
    assert (second.throughput_images_s, second.duration_s) == (pytest.approx((4 + 2) * 4), 4.0)
    assert sorted(set(first.latencies_s.round(6))) == [0.25, 0.5]
    assert len(first.latencies_s) == 8 + 4


def test_the_poorest_instance_and_window_decide_whether_a_run_counts():
    fast, slow = times(*np.arange(0, 10, 0.25)), times(*np.arange(0, 10, 0.5))
    assert fewest_whole([fast, slow], set_size=1, edges=[1 * S, 3 * S, 4 * S]) == 2
