"""A sweep small enough for pods in tests, and what its table says."""

from pathlib import Path

from runner import engine
from tests.samples import place, sweep

GRID = {"cores": [1, 2, 7], "instances": [1, 2]}
NUMBERS = ["slot", "objective", "status", "throughput_images_s", "latency_p95_s", "rank"]
# Three slots a lot.
LIMITS = {"lotMinutes": 8}
KILLER = {"cores": 2, "instances": 2, "source": "torchvision:resnet50"}


def numbers(table) -> list[dict[str, object]]:
    return table.select(NUMBERS).to_pylist()


def undisturbed(folder: Path, **spec):
    wanted = sweep(grid=GRID, limits=LIMITS, **spec)
    return engine.run(place(folder / "undisturbed", wanted)).table


def statuses(table) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in table.select(["slot", "status", "stage", "reason"]).to_pylist():
        name = " ".join(filter(None, (row["status"], row["stage"], row["reason"])))
        counts[name] = counts.get(name, 0) + 1
    return counts
