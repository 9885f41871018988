"""What the runner is fed: raw float32 files of seeded N(0,1), and the JSON file that describes them.

Names and JSON are those of the vendor's script. Inputs are consecutive pieces of one stream of images, so
that image k of a batch is the same whatever the batch: a reference output serves all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from runner import scratch
from runner.backends import INPUT_SEED
from runner.backends.qaic.flags import RunnerInputs

JSON_NAME = "aic_batch_io.json"
# Distinct inputs beyond this are not written: large batches would fill a memory-backed folder.
MOST_BYTES = 2**30


@dataclass(frozen=True)
class Inputs:
    """Input files below `folder`; `digest` is the SHA-256 of their content in order."""

    folder: Path
    shape: tuple[int, ...]
    files: Sequence[str]
    digest: str

    def for_runner(self, *, json: bool, prefix: str) -> RunnerInputs:
        """As arguments, each path led by `prefix` (`./inputFiles`, or the absolute folder)."""
        files = [f"{prefix}/{name}" for name in self.files]
        return RunnerInputs(f"{prefix}/{JSON_NAME}" if json else None, files)


def images(first: int, count: int, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Images `first` to `first + count` of the stream; `shape` is one image's."""
    source = np.random.default_rng(INPUT_SEED)
    if first:
        source.standard_normal((first, *shape), dtype=np.float32)
    return source.standard_normal((count, *shape), dtype=np.float32)


def write(folder: Path, input_name: str, shape: tuple[int, ...], count: int) -> Inputs:
    """Write `count` inputs of `shape` (batch first) into the empty or new `folder`, fewer where they would
    take more than `MOST_BYTES`. Raises Infrastructure where it can't be written."""
    batch = shape[0]
    count = max(1, min(count, MOST_BYTES // (4 * int(np.prod(shape)))))
    text = "x".join(map(str, shape))
    digest = hashlib.sha256()
    source = np.random.default_rng(INPUT_SEED)
    names = [f"input_img_{text}.raw", *(f"input_img_{text}-{number}.raw" for number in range(1, count))]
    with scratch.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            data = source.standard_normal((batch, *shape[1:]), dtype=np.float32).astype("<f4").tobytes()
            digest.update(data)
            (folder / name).write_bytes(data)
        described = [[_described(name, input_name, shape)] for name in names]
        (folder / JSON_NAME).write_bytes(
            orjson.dumps({"IO-files": described}, option=orjson.OPT_INDENT_2) + b"\n"
        )
    return Inputs(folder, shape, names, digest.hexdigest())


def _described(name: str, input_name: str, shape: tuple[int, ...]) -> dict[str, object]:
    """One input of one inference; its path is relative to the JSON file."""
    return {"path": name, "io-direction": "in", "elem-size": 4, "map-to": input_name, "dims": list(shape)}
