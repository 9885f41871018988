from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import stats
from runner.backends import Window
from runner.stats import littles_law_ratio, overlapping, samples_needed, summarise

seconds = st.floats(min_value=1e-6, max_value=1e3)
rates = st.floats(min_value=1e-3, max_value=1e6)


def window(rate: float, latencies: Sequence[float]) -> Window:
    return Window(rate, np.array(latencies, dtype=np.float64), 1.0)


windows = st.lists(st.builds(window, rates, st.lists(seconds, max_size=120)), min_size=1, max_size=6)


def normal_window(seed: int, n: int = 400) -> Window:
    source = np.random.default_rng(seed)
    return window(100.0 + source.normal(), list(1.0 + 0.1 * source.standard_normal(n)))


@settings(deadline=None)  # the first example imports scipy
@given(windows, st.randoms(use_true_random=False))
def test_the_order_of_windows_and_samples_does_not_matter(given_windows, random):
    shuffled = []
    for one in random.sample(given_windows, len(given_windows)):
        samples = list(one.latencies_s)
        random.shuffle(samples)
        shuffled.append(window(one.throughput_images_s, samples))
    before, after = astuple(summarise(given_windows)), astuple(summarise(shuffled))
    assert [v is None for v in before] == [v is None for v in after]
    assert [v for v in after if v is not None] == pytest.approx(
        [v for v in before if v is not None], rel=1e-9, abs=1e-12
    )


@settings(deadline=None)  # the first example imports scipy
@given(windows, st.floats(min_value=0.01, max_value=100))
def test_a_change_of_unit_scales_every_figure(given_windows, factor):
    scaled = [window(w.throughput_images_s * factor, list(w.latencies_s * factor)) for w in given_windows]
    before, after = summarise(given_windows), summarise(scaled)
    for name in stats.Summary.__dataclass_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if name.endswith("_n") or old is None:
            assert new == old
        else:
            size = max(before.throughput_images_s, before.latency_max_s or 0.0) * factor
            assert new == pytest.approx(old * factor, rel=1e-9, abs=1e-9 * size)


@settings(deadline=None)  # the first example imports scipy
@given(windows)
def test_percentiles_ascend_from_minimum_to_maximum(given_windows):
    s = summarise(given_windows)
    ladder = [
        s.latency_min_s, s.latency_p50_s, s.latency_p90_s, s.latency_p95_s, s.latency_p99_s, s.latency_max_s
    ]  # fmt: skip
    known = [value for value in ladder if value is not None]
    assert all(low <= high * (1 + 1e-12) for low, high in itertools.pairwise(known))


def test_figures_agree_with_numpy():
    given_windows = [normal_window(seed) for seed in range(5)]
    pooled = np.concatenate([w.latencies_s for w in given_windows])
    s = summarise(given_windows)
    assert s.latency_n == 2000
    assert s.latency_mean_s == pytest.approx(np.mean(pooled))
    assert s.latency_p50_s == pytest.approx(np.median(pooled))
    assert s.latency_p95_s == pytest.approx(np.percentile(pooled, 95))
    assert s.latency_p99_s == pytest.approx(np.percentile(pooled, 99))
    assert (s.latency_min_s, s.latency_max_s) == (pooled.min(), pooled.max())
    assert s.throughput_std == pytest.approx(np.std([w.throughput_images_s for w in given_windows], ddof=1))


def test_the_throughput_interval_is_students_t_over_windows():
    # Mean 10, standard deviation 1, t(0.975, 2) = 4.302652...: half width t / sqrt(3).
    s = summarise([window(rate, []) for rate in (9.0, 10.0, 11.0)])
    assert (s.throughput_images_s, s.throughput_std, s.throughput_n) == (10.0, 1.0, 3)
    assert s.throughput_ci95 == pytest.approx(4.302652729911275 / math.sqrt(3))


def test_one_window_has_no_interval():
    s = summarise([window(10.0, [1.0] * 20)])
    assert (s.throughput_std, s.throughput_ci95, s.latency_p95_ci95) == (None, None, None)


@pytest.mark.parametrize(("p", "needed"), [(0.50, 5), (0.90, 29), (0.95, 59), (0.99, 299)])
def test_a_percentile_needs_samples_enough_to_support_it(p, needed):
    name = f"latency_p{round(p * 100)}_s"
    assert samples_needed(p) == needed
    assert getattr(summarise([window(1.0, [1.0] * (needed - 1))]), name) is None
    assert getattr(summarise([window(1.0, [1.0] * needed)]), name) == 1.0


def test_without_samples_there_is_throughput_only():
    s = summarise([window(10.0, [])])
    assert (s.throughput_images_s, s.latency_n, s.latency_mean_s, s.latency_max_s) == (10.0, 0, None, None)


def test_the_p95_interval_comes_from_windows_where_each_supports_one():
    given_windows = [window(1.0, [value] * 59) for value in (0.9, 1.0, 1.1)]
    assert summarise(given_windows).latency_p95_ci95 == pytest.approx(4.302652729911275 * 0.1 / math.sqrt(3))


def test_else_from_order_statistics_that_cover_the_quantile():
    hits = 0
    for seed in range(300):
        s = summarise([normal_window(seed)])
        assert s.latency_p95_s is not None
        assert s.latency_p95_ci95 is not None
        # The 95 % quantile of N(1, 0.1).
        hits += abs(s.latency_p95_s - 1.1644853626951472) <= s.latency_p95_ci95
    # Half the interval is the wider side, so it covers at least its nominal 95 %; 270 is 4 sigma below.
    assert hits >= 270


def test_ranks_of_the_order_interval_are_those_of_the_binomial():
    # Exactly, for n = 1000: P(B <= 935) = 0.0207, P(B <= 936) = 0.0284, P(B <= 962) = 0.969 and
    # P(B <= 963) = 0.979: ranks 936 and 964.
    samples = np.arange(1, 1001, dtype=np.float64)
    s = summarise([window(1.0, list(samples))])
    centre = np.quantile(samples, 0.95)
    assert s.latency_p95_ci95 == pytest.approx(max(centre - 936, 964 - centre))


def test_a_closed_loop_in_agreement_has_ratio_one():
    # Two instances, four requests each in flight, batch 3: 24 images in 2 s of latency.
    s = summarise([window(12.0, [2.0, 2.0])])
    assert littles_law_ratio(s, instances=2, set_size=4, batch=3) == pytest.approx(1.0)
    assert littles_law_ratio(summarise([window(1.0, [])]), instances=1, set_size=1, batch=1) is None


@pytest.mark.parametrize(
    ("a", "ci_a", "b", "ci_b", "tie"),
    [
        (10.0, 0.5, 11.0, 0.5, True),
        (10.0, 0.4, 11.0, 0.5, False),
        (11.0, 0.5, 10.0, 0.5, True),
        (10.0, None, 11.0, 1.0, True),
        (10.0, None, 11.0, None, False),
        (10.0, None, 10.0, None, True),
    ],
)
def test_ties_are_intervals_that_touch(a, ci_a, b, ci_b, tie):
    assert overlapping(a, ci_a, b, ci_b) is tie


def test_nothing_to_summarise_is_an_error():
    with pytest.raises(ValueError, match="no windows"):
        summarise([])


@pytest.mark.parametrize("bad", [window(math.nan, [1.0]), window(1.0, [math.inf])])
def test_a_value_that_is_not_finite_is_an_error(bad):
    with pytest.raises(ValueError, match="not a finite number"):
        summarise([window(1.0, [1.0]), bad])
