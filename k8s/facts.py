"""What the plan and merge pods report in their termination messages. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast


@dataclass(frozen=True)
class PlanFacts:
    """A plan pod's message. Counts; seconds. `canary`: the first so many lots, one of each model, are wave 0;
    `targets` are the nodes of everyNode and everyDevice, each with its lots (first, count); `again`
    are slots that new requests chose to be measured again, None where there was no request."""

    plan: str
    lots: int
    canary: int = 0
    exports: int = 0
    binaries: int = 0
    cells: int = 0
    slots: int = 0
    unfit: int = 0
    todo: int = 0
    most_slots_a_lot: int = 0
    lots_per_node: int = 0
    device_s: float = 0.0
    compile_s: float = 0.0
    targets: Mapping[str, list[int]] = field(default_factory=dict)
    again: int | None = None

    def on(self, nodes: Sequence[str]) -> PlanFacts:
        """With targets, where a message had no room for them: each node has `lots_per_node` lots, in order."""
        stretches = {node: [n * self.lots_per_node, self.lots_per_node] for n, node in enumerate(nodes)}
        return self if self.targets else replace(self, targets=stretches)

    @property
    def lot_s(self) -> float:
        """Estimated device seconds of one lot."""
        return self.device_s / self.lots if self.lots else 0.0


@dataclass(frozen=True)
class MergeFacts:
    """A merge pod's message: the table's folder, slots by status, slots still wanted, device seconds by use."""

    table: str
    wanted: int
    counts: Mapping[str, int] = field(default_factory=dict)
    device_s: Mapping[str, float] = field(default_factory=dict)


def plan_facts(message: Mapping[str, Any] | None) -> PlanFacts | None:
    """None where the message is lost or no plan's."""
    return cast("PlanFacts | None", _read(PlanFacts, message))


def merge_facts(message: Mapping[str, Any] | None) -> MergeFacts | None:
    """None where the message is lost or no merge's."""
    return cast("MergeFacts | None", _read(MergeFacts, message))


def _read(kind: Any, message: Mapping[str, Any] | None) -> Any:
    known = {f.name for f in fields(kind)}
    try:
        return kind(**{name: value for name, value in (message or {}).items() if name in known})
    except TypeError:
        return None


@dataclass(frozen=True)
class Wave:
    """A stretch of lots worked on by one compile Job and one measure Job (or one a target)."""

    number: int
    first: int
    count: int


def waves(facts: PlanFacts, parallelism: int) -> Iterator[Wave]:
    """The canary lots, then 4 x parallelism lots each."""
    size, first, number = facts.canary or 4 * parallelism, 0, 0
    while first < facts.lots:
        count = min(size, facts.lots - first)
        yield Wave(number, first, count)
        size, first, number = 4 * parallelism, first + count, number + 1
