"""One number of the table, and its goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Figure:
    """`most`: the goal, where there is one; `n`: of how many observations; `more`: spread, or of what."""

    what: str
    value: float
    unit: str = ""
    most: float | None = None
    n: int = 1
    more: str = ""

    @property
    def met(self) -> bool:
        return self.most is None or self.value <= self.most

    def line(self) -> str:
        goal = "" if self.most is None else f"<= {self.most:g}: {'met' if self.met else 'MISSED'}"
        return f"  {self.what:<46}{self.value:>9.3g} {self.unit:<11}{self.n:>8,}  {goal:<15} {self.more}".rstrip()


HEADER = f"  {'what':<46}{'measured':>9} {'':<11}{'n':>8}  {'goal':<15} spread, or of what"


def longest(what: str, seconds: Sequence[float], most: float | None = None) -> Figure:
    return Figure(f"{what}, longest", max(seconds), "s", most, len(seconds), _spread(seconds))


def p99(what: str, seconds: Sequence[float], most: float | None = None) -> Figure:
    return Figure(
        f"{what}, p99", float(np.percentile(seconds, 99)), "s", most, len(seconds), _spread(seconds)
    )


def _spread(seconds: Sequence[float]) -> str:
    middle, p90 = np.percentile(seconds, [50, 90])
    return f"median {middle:.3f}, p90 {p90:.3f}, max {max(seconds):.3f}"
