"""The made-up performance of an emulated card: a formula, no measurement of anything.

It has the shape a sweep is made to find: more cores shorten an inference less than in proportion, batches
save a little, a second inference in flight hides the host's share, one OLS and MOS suits a graph best, and
cards of one SKU differ by a percent.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

_PRECISION_FACTOR = {"fp16": 1.0, "int8": 0.55, "fp32": 3.0}
_SKU_FACTOR = {"PCIe": 1.0, "PCIe Pro": 0.95, "PCIe Ultra": 1.6, "M.2": 1.3}
RUN_NOISE = 0.004
# Load, activate, unload by batch: medians of the vendor's published configurator logs.
_OVERHEAD_S = {1: 1.3, 2: 1.6, 4: 1.7, 8: 2.0, 16: 2.5}
COMPILE_S = 30.0


@dataclass(frozen=True)
class Point:
    """Everything a rate depends on, apart from noise."""

    graph: str
    cores: int
    instances: int
    set_size: int
    batch: int
    ols: int
    mos: int
    precision: str
    tuning: str
    card: str
    sku: str
    card_factor: float


def throughput_images_s(point: Point) -> float:
    """Images per second of all instances together, without noise."""
    work_s = 0.0015 * 20.0 ** _unit(point.graph, "work")
    scaling = 0.62 + 0.2 * _unit(point.graph, "scaling")
    best_ols = int(3 * _unit(point.graph, "ols"))
    best_mos = math.log2(point.cores) * _unit(point.graph, "mos")
    service_s = 0.00025 + work_s * (0.75 * point.batch + 0.25) / float(point.cores) ** scaling
    service_s *= 1 + 0.05 * abs(math.log2(point.ols) - best_ols)
    service_s *= 1 + 0.04 * abs(math.log2(point.mos) - best_mos)
    service_s *= 1 + 0.006 * (point.instances - 1)
    service_s *= 1 + 0.03 * (2 * _unit(point.graph, point.tuning) - 1)
    service_s *= _PRECISION_FACTOR[point.precision] * _SKU_FACTOR.get(point.sku, 1.0)
    service_s *= 1 + 0.015 * (2 * _unit(point.card, "card") - 1)
    host_s = 0.00012 + 0.00002 * point.batch
    period_s = max(service_s, (service_s + host_s) / point.set_size)
    rate: float = point.card_factor * point.instances * point.batch / period_s
    return rate


def observed_images_s(point: Point, repeat: int) -> float:
    """What the `repeat`-th run of a point finds: the same in every place, another one for each repeat."""
    return throughput_images_s(point) * (1 + RUN_NOISE * random.Random(seed(point, repeat)).gauss(0, 1))


def seed(point: Point, repeat: int) -> int:
    return int(hashlib.sha256(f"{point}/{repeat}".encode()).hexdigest()[:16], 16)


def overhead_s(batch: int) -> float:
    """Seconds a run takes beside its measuring."""
    return _OVERHEAD_S[max(size for size in _OVERHEAD_S if size <= max(batch, 1))]


def _unit(*parts: str) -> float:
    """A number in 0..1 that belongs to these texts."""
    return int(hashlib.sha256("/".join(parts).encode()).hexdigest()[:13], 16) / 16.0**13
