"""CPU that the harness itself costs per inference, against calling the session in a plain loop.

The reference is the least that any Python harness can do: no look at the clock. Both are measured with a
session that does nothing, and with ONNX Runtime on the smallest graph there is.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runner.backends import ort_session
from runner.backends.closed_loop import cut, drive

SET_SIZE = 4
Session = tuple[Callable[[Any], object], Sequence[Any]]


def driven_no_op(count: int, folder: Path) -> int:
    return _driven(_no_op(), count)


def plain_no_op(count: int, folder: Path) -> int:
    return _plain(_no_op(), count)


def driven_identity(count: int, folder: Path) -> int:
    return _driven(_identity(), count)


def plain_identity(count: int, folder: Path) -> int:
    return _plain(_identity(), count)


def _plain(session: Session, count: int) -> int:
    infer, requests = session
    for request in itertools.islice(itertools.cycle(requests), count):
        infer(request)
    return count


def _driven(session: Session, count: int) -> int:
    """The product's loop and, since it belongs to the price, cutting one window of the result."""
    infer, requests = session
    completed = np.frombuffer(drive(infer, requests, 0, at_least=count).tobytes(), dtype=np.int64)
    cut([completed], set_size=len(requests), batch=1, edges=[int(completed[0]), int(completed[-1])])
    return count


def _no_op() -> Session:
    return (lambda request: None), list(range(SET_SIZE))


def _identity() -> Session:
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
