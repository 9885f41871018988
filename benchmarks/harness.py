"""CPU that the harness itself costs per inference, against a plain loop in the same run.

    python benchmarks/harness.py [inferences]

Goal: at most 5 us of CPU per inference on a no-op session. The reference is the least that
any Python harness can do, calling the session in a `for` loop without looking at the clock.
Each is measured several times in turn and the fastest counts, so that a busy host spoils neither.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runner.backends import ort_session
from runner.backends.closed_loop import cut, drive

ROUNDS = 7
GOAL_US = 5.0
SET_SIZE = 4


def plain(infer: Callable[[Any], object], requests: Sequence[Any], count: int) -> None:
    for request in itertools.islice(itertools.cycle(requests), count):
        infer(request)


def driven(infer: Callable[[Any], object], requests: Sequence[Any], count: int) -> None:
    """The product's loop and, since it belongs to the price, cutting one window of the result."""
    completed = np.frombuffer(drive(infer, requests, 0, at_least=count).tobytes(), dtype=np.int64)
    cut([completed], set_size=len(requests), batch=1, edges=[int(completed[0]), int(completed[-1])])


def fastest_us(infer: Callable[[Any], object], requests: Sequence[Any], count: int) -> tuple[float, float]:
    """CPU microseconds per inference: (plain loop, product's loop)."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for index, loop in enumerate((plain, driven)):
            began = time.process_time_ns()
            loop(infer, requests, count)
            best[index] = min(best[index], (time.process_time_ns() - began) / count / 1000)
    return best[0], best[1]


def no_op(request: object) -> None:
    """A session that takes no time."""


def identity_session() -> tuple[Callable[[Any], object], Sequence[Any]]:
    """The smallest graph there is, for what ONNX Runtime itself costs per call."""
    import tempfile
    from pathlib import Path

    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 1, 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(model, path)
        session = ort_session.open_session(
            path,
            input_name="x",
            output_name="y",
            inputs=ort_session.normal_inputs(SET_SIZE, (1, 3, 1, 1)),
            cores=1,
            spinning=False,
        )
    return session.infer, session.requests


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    sessions = {"no-op": (no_op, list(range(SET_SIZE))), "identity graph": identity_session()}
    print(f"{'session':16}{'plain loop':>12}{'harness':>12}{'difference':>12}{'ratio':>8}   us of CPU each")
    costs = {}
    for name, (infer, requests) in sessions.items():
        reference, ours = fastest_us(infer, requests, count)
        costs[name] = ours - reference
        print(f"{name:16}{reference:12.3f}{ours:12.3f}{ours - reference:12.3f}{ours / reference:8.2f}")
    met = costs["no-op"] <= GOAL_US
    print(f"goal {GOAL_US:g} us: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
