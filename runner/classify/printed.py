"""What is printed. Parsers of the vendor's output read two lines of standard output, the runner's `Inf/Sec` and
`Latency (95pct)`; remarks of ours go to standard error."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from runner.classify.options import PROGRAM
from runner.classify.parameters import Parameters
from runner.stats import samples_needed

FIRST_VALUES = 4
Values = npt.NDArray[np.float32]


def banner(step: str, *facts: str) -> None:
    """`---- Compile resnet50: batch 13, cores 7`, before each step."""
    print(f"\n---- {step}: {', '.join(facts)}", flush=True)


def say(text: str) -> None:
    print(text, flush=True)


def note(text: str) -> None:
    """A remark, to standard error."""
    sys.stdout.flush()
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def pass_through(descriptor: int, chunk: bytes) -> None:
    """Output of a tool, as it comes."""
    stream = sys.stderr if descriptor == 2 else sys.stdout
    stream.buffer.write(chunk)
    stream.flush()


def compile_facts(p: Parameters, precision: str) -> list[str]:
    return [
        f"batch {p.batch_size}", f"cores {p.cores}", f"ols {p.ols}", f"mos {p.mos or 'none'}", precision,
        f"extra flags {p.extra or 'none'}",
    ]  # fmt: skip


def run_facts(p: Parameters) -> list[str]:
    return [
        f"batch {p.batch_size}", f"instances {p.instances}", f"cores {p.cores}", f"set size {p.set_size}",
        f"{p.time_s} s",
    ]  # fmt: skip


def statistics_line(images_s: float, window_s: float, batch: int) -> str:
    """The runner's line for what something else measured: as many whole inferences as the window held, in the
    time they take at its rate, so that the line's numbers follow from each other."""
    count = max(1, round(images_s * window_s / batch))
    duration_us = round(count * batch / images_s * 1e6)
    rate = count * 1e6 / duration_us * batch
    return f"InferenceCnt {count} TotalDuration {duration_us}us BatchSize {batch} Inf/Sec {rate:.3f}"


def latency(latencies_s: npt.NDArray[np.float64]) -> None:
    """`Latency (95pct) = 10.334 ms`: by linear interpolation over all inferences of all instances."""
    say(f"Latency (95pct) = {np.percentile(latencies_s, 95) * 1e3:.3f} ms")
    if len(latencies_s) < samples_needed(0.95):
        note(
            f"{len(latencies_s)} inferences are few for a 95th percentile ({samples_needed(0.95)} are enough)"
        )


def comparison(name: str, actual: Values, reference: Values, device: str) -> None:
    """First values of both runs and their largest absolute difference."""
    width = max(len(device), len("ONNX Runtime fp32"))
    for who, values in ((device, actual), ("ONNX Runtime fp32", reference)):
        first = " ".join(f"{value:12.6f}" for value in values.ravel()[:FIRST_VALUES])
        say(f"{name}, {who:<{width}} {first}")
    say(f"{name}, largest absolute difference {np.abs(actual - reference).max():.6g}")
