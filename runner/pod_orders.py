"""What a pod is told by its environment, read strictly: every problem at once, each with its variable. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from runner import plan
from runner.errors import BadInput, Problem
from runner.keys import device_target
from runner.spec import ANY, EVERY_DEVICE, Sweep

TERMINATION_LOG = "AICSWEEP_TERMINATION_LOG"

# What a stage can't do without.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "plan": ("store", "prefix", "pod", "sweep", "round"),
    "export": ("store", "prefix", "pod", "plan", "first", "index"),
    "compile": ("store", "prefix", "pod", "plan", "first", "index"),
    "measure": ("store", "prefix", "pod", "plan", "first", "index"),
    "merge": ("store", "prefix", "pod", "plan"),
}


def variable(name: str) -> str:
    """The environment variable of a field of `Orders`."""
    return "JOB_COMPLETION_INDEX" if name == "index" else f"AICSWEEP_{name.upper()}"


NodeName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class Node(BaseModel):
    """A node to measure on, and how many devices it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: NodeName
    devices: Annotated[int, Field(ge=1, le=1024)]


class Orders(BaseModel):
    """The environment's variables of one stage. Docs of each: docs/pods.md."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=variable)

    store: str = ""
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")
    pod: str = Field(default="", pattern=r"^[A-Za-z0-9-]{1,63}$")
    node: str = ""
    sweep: Json[dict[str, Any]] = {}
    round: int = Field(default=1, ge=1)
    cores: int = Field(default=0, ge=1)
    targets: Json[Annotated[list[Node], Field(min_length=1, max_length=10_000)]] | None = None
    plan: str = Field(default="", pattern=r"^[0-9a-f]{32}$")
    first: int = Field(default=0, ge=0)
    index: int = Field(default=0, ge=0)
    execution: Literal["split", "combined"] = "split"
    unreached: Json[dict[str, str]] = {}

    @property
    def number(self) -> int:
        """Which export, compile task or lot of the plan is this pod's."""
        return self.first + self.index

    def targets_of(self, sweep: Sweep) -> Mapping[str, str]:
        """The sweep's targets, each with its node. Raises BadInput where they are not given."""
        if sweep.spec.placement == ANY:
            return plan.ANYWHERE
        if self.targets is None:
            where = f"environment variable {variable('targets')}"
            raise BadInput([Problem(where, f"is needed for placement {sweep.spec.placement}")])
        if sweep.spec.placement == EVERY_DEVICE:
            return {device_target(n.node, k): n.node for n in self.targets for k in range(n.devices)}
        return {n.node: n.node for n in self.targets}


def read_orders(stage: str, environment: Mapping[str, str]) -> Orders:
    """The orders of a stage. Raises BadInput with every variable that is missing or wrong."""
    given = {name: value for name, value in environment.items() if value}
    problems = [
        Problem(f"environment variable {variable(name)}", "is missing", "the controller sets it")
        for name in NEEDED[stage]
        if variable(name) not in given
    ]
    try:
        orders = Orders.model_validate(given)
    except ValidationError as error:
        problems += [
            Problem(f"environment variable {detail['loc'][0]}", _words(detail))
            for detail in error.errors(include_url=False)
        ]
        raise BadInput(problems) from None
    if problems:
        raise BadInput(problems)
    return orders


def _words(detail: Mapping[str, Any]) -> str:
    inner = ".".join(str(part) for part in detail["loc"][1:])
    return f"{inner}: {detail['msg']}" if inner else str(detail["msg"])
