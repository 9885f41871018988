"""What can't work, said before any work with the row's values and a change that would fit. Pure.

Parameters are decided field by field, so that an option may no longer fit what the row says beside it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from runner import catalogue, cells
from runner.backends import Capacity
from runner.catalogue import MODELS
from runner.classify.given import Given
from runner.classify.parameters import Parameters
from runner.errors import Problem
from runner.lut import LutRow

# Of one input; beyond it a batch is a slip of the finger, and would fill a memory-backed folder.
MOST_INPUT_BYTES = 2**30


def problems(
    parameters: Parameters, given: Given, row: LutRow | None, capacity: Capacity | None, *, compiles: bool
) -> list[Problem]:
    """Everything that can't work. `capacity` is None where the device does not say; `compiles`: MOS and extra
    flags matter."""
    p = parameters
    found: list[tuple[str, str]] = []
    if capacity and p.cores * p.instances > capacity.cores:
        needed = f"{p.cores} cores x {p.instances} instances need {p.cores * p.instances}"
        found.append(("--cores x --instances", f"{needed}, there are {capacity.cores} ({capacity.reason})"))
    if compiles:
        found += _partition_problems(p)
    # One change for all of them, said once.
    remedy = _remedy(p, row, fitting(p, given, capacity, compiles=compiles)) if found else ""
    misfits = [Problem(*problem, "" if number else remedy) for number, problem in enumerate(found)]
    return [*misfits, *_size_problems(p)]


def _size_problems(p: Parameters) -> list[Problem]:
    found, model = [], MODELS[p.model]
    if problem := catalogue.size_problem(model, p.image_size):
        fits = model.image_size if model.fixed_size else model.min_image_size
        found.append(
            Problem("--image-size", f"{problem}, not {p.image_size}", f"--image-size {fits} would fit")
        )
    size = 4 * math.prod(p.shape)
    if size > MOST_INPUT_BYTES:
        message = (
            f"one input of {'x'.join(map(str, p.shape))} takes {size / 2**30:.1f} GiB, the limit is 1 GiB"
        )
        fits = MOST_INPUT_BYTES // (size // p.batch_size)
        found.append(Problem("--batch-size", message, f"--batch-size {fits} would fit" if fits else ""))
    return found


def _partition_problems(p: Parameters) -> list[tuple[str, str]]:
    """What the compiler would refuse about MOS and the clusters of single-device partitioning."""
    found = []
    sizes, values = cells.cluster_sizes(p.extra or ""), _mos_values(p)
    if sizes and sum(sizes) != p.cores:
        found.append(("--extra", f"{cells.SDP}{_joined(sizes)} adds up to {sum(sizes)} cores, not {p.cores}"))
    if values and max(values) > p.cores:
        found.append(("--mos", f"mos {p.mos} is more than {p.cores} cores"))
    if len(values) > 1 and len(values) != len(sizes):
        clusters = f"{len(sizes)} clusters" if sizes else f"no clusters ({cells.SDP}...)"
        found.append(
            ("--mos", f"mos {p.mos} has a value for each of {len(values)} clusters, there are {clusters}")
        )
    return found


def fitting(
    parameters: Parameters, given: Given, capacity: Capacity | None, *, compiles: bool
) -> dict[str, str]:
    """Options that, added or changed together, would fit: what was not asked for gives way first."""
    p = parameters
    cores, instances = _within(capacity.cores, p, given) if capacity else (p.cores, p.instances)
    changes = {}
    if cores != p.cores:
        changes["--cores"] = str(cores)
    if instances != p.instances:
        changes["--instances"] = str(instances)
    if compiles:
        changes |= _partition_changes(replace(p, cores=cores))
    return changes


def _within(limit: int, p: Parameters, given: Given) -> tuple[int, int]:
    if p.cores * p.instances <= limit:
        return p.cores, p.instances
    if given.instances and not given.cores and p.instances <= limit:
        return limit // p.instances, p.instances
    cores = min(p.cores, limit)
    return cores, limit // cores


def _partition_changes(p: Parameters) -> dict[str, str]:
    changes: dict[str, str] = {}
    sizes, values = cells.cluster_sizes(p.extra or ""), _mos_values(p)
    if sizes and sum(sizes) != p.cores:
        sizes = []
        others = [word for word in shlex.split(p.extra or "") if not word.startswith(cells.SDP)]
        changes["--extra"] = shlex.join(others)
    if len(values) > 1 and len(values) != len(sizes):
        changes["--mos"] = ""
    elif values and max(values) > p.cores:
        changes["--mos"] = "" if len(values) > 1 else str(p.cores)
    return changes


def _remedy(p: Parameters, row: LutRow | None, changes: Mapping[str, str]) -> str:
    options = " ".join(
        f"{name} {value}" if value.isdigit() else f'{name}="{value}"' for name, value in changes.items()
    )
    if row is None:
        said = f"there is no row for {p.model}, {p.objective}"
    else:
        values = [
            f"{word} {value}" for name, word in _SHOWN.items() if (value := getattr(row, name)) is not None
        ]
        said = f"the row of {p.model}, {p.objective} has {', '.join(values)}"
    return f"{said}; {options} would fit"


_SHOWN = {"batch_size": "batch"} | {name: name for name in ("cores", "instances", "ols", "mos", "extra")}


def _mos_values(p: Parameters) -> list[int]:
    return [int(part) for part in p.mos.split(",")] if p.mos else []


def _joined(values: Sequence[int]) -> str:
    return ",".join(map(str, values))
