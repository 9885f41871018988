"""Whether and how a sweep can run here: models at hand, limits, budget; then its plan. Before anything is worked on.

Sweep --limits--> models --`plan.make_plan`--> Plan --`require_budget`--> engine
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runner import cells, hub, keys, lut, plan
from runner.backends import Backend, Capacity
from runner.catalogue import HUGGING_FACE, MODELS, ONNX, Model
from runner.errors import BadInput, Problem
from runner.plan import Plan
from runner.spec import Sweep


def models_at_hand(sweep: Sweep) -> list[Model]:
    """The sweep's models, each by what it really is: an ONNX file by the digest of its content, a hub's
    model by the commit of its revision. Raises BadInput."""
    models: list[Model] = []
    problems: list[Problem] = []
    random = sweep.spec.weights == "random"
    for model in cells.models_of(sweep.spec):
        if model.kind == HUGGING_FACE and not (random and model.name in MODELS):
            # Random weights of the catalogue's own models take nothing from the hub.
            models.append(replace(model, source=hub.pinned(model.source)))
            continue
        if model.kind != ONNX:
            models.append(model)
            continue
        path = Path(model.source.removeprefix(f"{ONNX}:")).expanduser()
        try:
            digest = keys.digest_bytes(path.read_bytes())
        except OSError as error:
            problems.append(
                Problem("spec.models", f"{model.name}: {error.strerror}", "a path of this machine")
            )
            continue
        models.append(replace(model, source=f"{ONNX}:{digest}", location=str(path.resolve())))
    if problems:
        raise BadInput(problems)
    return models


def make_plan(
    sweep: Sweep,
    backend: Backend,
    table: lut.LutTable,
    number: int = 1,
    past: Mapping[str, plan.Past] | None = None,
    *,
    targets: Mapping[str, str] = plan.ANYWHERE,
    capacity: Capacity | None = None,
) -> Plan:
    """The plan of a round. Without a `capacity` it is for devices of this machine. Raises BadInput for
    whatever is over a limit or can't fit."""
    capacity = capacity or backend.capacity(sweep.spec.hardware)
    target = cells.Target(
        backend.NAME, backend.PARAMETERS, backend.PRECISIONS, capacity.cores, capacity.reason
    )
    problems = over_limits(sweep, target)
    if problems:
        raise BadInput(problems)
    return plan.make_plan(
        sweep,
        models_at_hand(sweep),
        table,
        target,
        backend,
        round_number=number,
        past=past,
        targets=targets,
    )


def over_limits(sweep: Sweep, target: cells.Target) -> list[Problem]:
    """Values that no point can have on this hardware, and too many points; found before expanding."""
    problems = []
    if "hardware" in target.parameters:
        for index, cores in enumerate(sweep.spec.grid.cores or ()):
            if cores > target.cores:
                where = f"spec.grid.cores[{index}]"
                problems.append(
                    Problem(where, f"{cores} cores, there are {target.cores} {target.cores_reason}")
                )
    count, limit = cells.count_points(sweep.spec), sweep.spec.limits.max_cells
    if count > limit:
        most = 1_000_000
        remedy = (
            f"limits: {{maxCells: {count}}} would do"
            if count <= most
            else "shorten an axis; no more than 1,000,000"
        )
        problems.append(
            Problem("spec.grid", f"asks for {count:,} cells, limits.maxCells is {limit:,}", remedy)
        )
    return problems


def require_budget(sweep: Sweep, made: Plan) -> None:
    """Raises BadInput where the plan's device time is over `limits.maxDeviceHours`. In a cluster the
    controller watches over it, wave by wave, with what was used before."""
    hours, limit = made.device_s / 3600, sweep.spec.limits.max_device_hours
    if hours > limit:
        remedy = (
            f"limits: {{maxDeviceHours: {hours + 0.05:.1f}}} would do, or fewer points, seconds or repeats"
        )
        message = f"is {limit:g}, about {hours:.1f} hours are needed"
        raise BadInput([Problem("spec.limits.maxDeviceHours", message, remedy)])
