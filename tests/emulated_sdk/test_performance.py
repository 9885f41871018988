"""The made-up formula: the same everywhere, and shaped so that a sweep has something to find."""

from dataclasses import replace

import pytest

from tests.emulated_sdk.performance import Point, observed_images_s, overhead_s, throughput_images_s

POINT = Point(
    graph="a" * 64, cores=2, instances=7, set_size=10, batch=4, ols=1, mos=1, precision="fp16", tuning="",
    card="EMUL-0000", sku="PCIe", card_factor=1.0,
)  # fmt: skip
GRAPHS = [letter * 64 for letter in "abcdef"]


def latency_s(point):
    return point.instances * point.set_size * point.batch / throughput_images_s(point)


def test_it_is_the_same_everywhere():
    assert throughput_images_s(POINT) == pytest.approx(5853.28, abs=0.1)
    assert observed_images_s(POINT, 1) == observed_images_s(POINT, 1) != observed_images_s(POINT, 2)
    assert observed_images_s(POINT, 1) == pytest.approx(throughput_images_s(POINT), rel=0.02)


@pytest.mark.parametrize("graph", GRAPHS)
def test_more_cores_shorten_an_inference_and_more_instances_serve_more(graph):
    one = replace(POINT, graph=graph, set_size=1, batch=1)
    wide, many = replace(one, cores=14, instances=1), replace(one, cores=1, instances=14)
    assert latency_s(wide) < latency_s(one) < latency_s(many)
    assert throughput_images_s(wide) < throughput_images_s(many)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_queue_hides_the_host_and_costs_latency(graph):
    one, two, ten = (replace(POINT, graph=graph, set_size=size) for size in (1, 2, 10))
    assert throughput_images_s(one) < throughput_images_s(two) <= throughput_images_s(ten)
    assert latency_s(two) < latency_s(ten)


@pytest.mark.parametrize(
    "change",
    [{"ols": 8}, {"mos": 2}, {"precision": "int8"}, {"tuning": "multicast-weights=True"}, {"card": "EMUL-0001"},
     {"sku": "PCIe Ultra"}, {"card_factor": 0.8}, {"batch": 8}],
    ids=str,
)  # fmt: skip
def test_every_parameter_matters(change):
    assert throughput_images_s(replace(POINT, **change)) != throughput_images_s(POINT)


def test_the_overhead_of_a_run_grows_with_the_batch():
    assert [overhead_s(batch) for batch in (1, 3, 16, 100)] == [1.3, 1.6, 2.5, 2.5]
