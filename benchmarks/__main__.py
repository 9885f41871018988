"""`python -m benchmarks [CASE ...]`: one table of what was measured, what a first version would take, and the goals.

A case is the product's work and, where there is one, a naive reference that does the same job in the
obvious way (an object and a JSON text for each cell), measured in the same run. `x naive` is the ratio of
their CPU per item, `us/item`. A goal in seconds is judged by the smaller of wall and CPU: on a busy host wall
says how busy it was; with threads, CPU says more than an idle host would wait. Exits 1 where a goal is missed or a
case fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Measured, measured
from benchmarks.s3 import BUCKET
from tests import s3_server


@dataclass(frozen=True)
class Work:
    """A `module:function` of this package, called with a number of items and a folder, which is empty or as
    `prepare` (another such function, not measured) left it."""

    function: str
    count: int
    prepare: str = ""

    def measure(self) -> Measured:
        with tempfile.TemporaryDirectory(prefix="aicsweep-bench-") as folder:
            if self.prepare:
                measured(self.prepare, self.count, Path(folder))
            return measured(self.function, self.count, Path(folder))


@dataclass(frozen=True)
class Case:
    """The product's work, references to compare it with (the first is the one of the goals; one with fewer
    items is scaled), and goals."""

    name: str
    work: Work
    naive: tuple[Work, ...] = ()
    seconds: float | None = None
    peak_mib: float | None = None
    per_second: float | None = None
    times_naive: float | None = None
    us_above_naive: float | None = None
    us: float | None = None
    # Items done for each item that was asked for, where the items done are what it costs.
    items_each: float | None = None

    @property
    def needs_s3(self) -> bool:
        return self.work.function.startswith("s3:")

    def goals(self, own: Measured, naive: Measured | None) -> dict[str, bool]:
        """Each goal in words, and whether it was met."""
        seconds = min(own.wall_s, own.cpu_s)
        found = {}
        if self.seconds is not None:
            found[f"{self.seconds:g} s"] = seconds <= self.seconds
        if self.peak_mib is not None:
            found[f"{self.peak_mib:g} MiB"] = own.peak_mib <= self.peak_mib
        if self.per_second is not None:
            found[f"{self.per_second:g} a second"] = own.count / seconds >= self.per_second
        if naive and self.times_naive is not None:
            found[f"{self.times_naive:g} x naive"] = naive.us / own.us >= self.times_naive
        if naive and self.us_above_naive is not None:
            found[f"naive + {self.us_above_naive:g} us"] = own.us - naive.us <= self.us_above_naive
        if self.us is not None:
            found[f"{self.us:g} us"] = own.us <= self.us
        if self.items_each is not None:
            each = own.count / self.work.count
            found[f"{self.items_each:g} each ({each:.3f})"] = each <= self.items_each
        return found


MILLION = 1_000_000
CASES = [
    Case("plan-100k", Work("planning:plan", 100_000), (Work("planning:naive", 100_000),), seconds=10),
    Case(
        "plan-1m",
        Work("planning:plan", MILLION),
        (Work("planning:naive", 100_000),),
        seconds=40,
        peak_mib=400,
    ),
    Case("plan-1m-one-network", Work("planning:plan_one_network", MILLION), seconds=40, peak_mib=400),
    Case("zero-work", Work("flow:zero_work", 20_000), (Work("flow:naive", 20_000),), per_second=2_000),
    Case(
        "merge-1m",
        Work("merging:merge", MILLION, prepare="merging:write_store"),
        (
            Work("merging:naive", 100_000, prepare="merging:write_objects"),
            Work("merging:naive_one_file", 100_000, prepare="merging:write_lines"),
        ),
        seconds=8,
        peak_mib=1024,
        times_naive=12,
    ),
    Case("merge-publish-1m", Work("merging:merge_and_publish", MILLION, prepare="merging:write_store")),
    Case(
        "harness",
        Work("harness:driven_no_op", MILLION),
        (Work("harness:plain_no_op", MILLION),),
        us_above_naive=5,
    ),
    Case(
        "harness-onnxruntime",
        Work("harness:driven_identity", 200_000),
        (Work("harness:plain_identity", 200_000),),
    ),
    # Items are requests: of 4,200 cells, 50 to a lot.
    Case("s3-requests", Work("s3:requests_of_a_sweep", 4_200), (Work("s3:naive_requests", 1_000),)),
    Case("s3-requests-measuring", Work("s3:requests_while_measuring", 4_200), items_each=0.05),
    Case("s3-cpu", Work("s3:segments", 10_000), (Work("s3:naive_segments", 2_000),), us=500),
    Case("merge-1m-s3", Work("s3:merge", MILLION, prepare="s3:write_store"), peak_mib=1024),
]


def run(case: Case) -> bool:
    """Measure a case, print its lines, and say whether its goals were met."""
    references = [work.measure() for work in case.naive]
    own = case.work.measure()
    goals = case.goals(own, references[0] if references else None)
    _line(
        case.name, own, "", "; ".join(f"{goal}: {'met' if met else 'MISSED'}" for goal, met in goals.items())
    )
    for work, figures in zip(case.naive, references, strict=True):
        scaled = figures.count < own.count / 2
        _line(
            f"  {work.function}",
            figures,
            f"{figures.us / own.us:.1f}",
            "fewer items, scaled" if scaled else "",
        )
    return all(goals.values())


def attempt(case: Case) -> bool:
    """`run`; where a process of the case fails, that is its line, and the other cases go on."""
    try:
        return run(case)
    except subprocess.CalledProcessError as error:
        print(f"{case.name:<26}failed: {error.cmd[-3]} exited with {error.returncode}", flush=True)
        return False


def _line(name: str, figures: Measured, ratio: str, remark: str) -> None:
    print(
        f"{name:<26}{figures.count:>10,}{figures.wall_s:>9.2f}{figures.cpu_s:>9.2f}{figures.us:>11.2f}"
        f"{figures.peak_mib:>10,.0f}{ratio:>9}  {remark}".rstrip(),
        flush=True,
    )


def main(names: list[str]) -> int:
    known = {case.name: case for case in CASES}
    if unknown := set(names) - set(known):
        print(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    print(
        f"{'case':<26}{'items':>10}{'wall s':>9}{'CPU s':>9}{'us/item':>11}{'peak MiB':>10}{'x naive':>9}  goals"
    )
    cases = [known[name] for name in names or known]
    with server() if any(case.needs_s3 for case in cases) else nullcontext():
        met = [attempt(case) for case in cases]
    return 0 if all(met) else 1


@contextmanager
def server() -> Iterator[None]:
    """A real S3 server that this process and its children find."""
    with (
        tempfile.TemporaryDirectory(prefix="aicsweep-bench-s3-") as folder,
        s3_server.running(Path(folder)) as running,
    ):
        running.client().create_bucket(Bucket=BUCKET)
        os.environ.update(running.environment())
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
