"""What the controller says of a Sweep: `status`, small whatever the size of the sweep.

Every field is bounded so that the largest possible status stays below 16 KiB: the API server's cost of a
write grows with the size of the object, not of the change. `draft` writes it, `crd` makes it a schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Phase = Literal["Invalid", "Planning", "Exporting", "Measuring", "Merging", "Suspended", "Complete", "Failed"]
ConditionType = Literal["Valid", "Progressing", "Complete", "Failed", "Suspended", "OverBudget"]

# How much there is room for; whoever writes more cuts it, or the API server refuses the whole status.
MESSAGE_CHARACTERS = 1000
TEXT_CHARACTERS = {"message": 2000, "waiting": 500, "tableUrl": 1536, "planDigest": 128, "eta": 32}
MOST_EXCLUDED = 50

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Field(ge=0)]
# Keyed by type: two writers of conditions do not undo each other.
_BY_TYPE: Any = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


class Reported(BaseModel):
    """Written by the controller alone; names in YAML are camelCase."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Cells(Reported):
    """Slots by verdict, exact after a merge. Until then `done` is an estimate from the lots that succeeded, rounded
    down to steps, and a slot that its device or host failed is among them."""

    total: Count = Field(default=0, description="Slots that the sweep wants.")
    unfit: Count = Field(default=0, description="Points the hardware has no room for; listed, never tried.")
    done: Count = Field(default=0, description="Slots with a verdict: ok, failed or infeasible.")
    ok: Count = Field(default=0, description="Measured.")
    failed: Count = Field(default=0, description="Tried, with the reason in the table.")
    infeasible: Count = Field(default=0, description="Can't work with these flags on this hardware.")
    missing: Count = Field(default=0, description="Without a verdict: target, host or store was away.")


class DeviceSeconds(Reported):
    """Device time, all rounds together; `used` is the sum of the four below it."""

    estimate: Seconds = Field(default=0.0, description="Of the whole sweep.")
    used: Seconds = Field(default=0.0, description="By estimate while a round runs, exact after its merge.")
    measuring: Seconds = Field(default=0.0, description="Within measuring windows.")
    overhead: Seconds = Field(default=0.0, description="Loading, warming up, waiting for the card to be fit.")
    failed: Seconds = Field(default=0.0, description="On what failed.")
    repeated: Seconds = Field(default=0.0, description="On what had been measured before.")


class Condition(Reported):
    """As of all Kubernetes resources."""

    type: ConditionType = Field(description="What is or is not so.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: str = Field(
        min_length=1, max_length=64, pattern=r"^[A-Za-z]([A-Za-z0-9]*)$", description="A word for programs."
    )
    message: str = Field(default="", max_length=MESSAGE_CHARACTERS, description="A sentence for people.")
    last_transition_time: str = Field(
        max_length=32, json_schema_extra={"format": "date-time"}, description="When `status` last changed."
    )
    observed_generation: int = Field(default=0, ge=0, description="Of the spec it speaks of.")


def _text(name: str, description: str) -> Any:
    return Field(default=None, max_length=TEXT_CHARACTERS[name], description=description)


class SweepStatus(Reported):
    """How far the sweep is, and where its table lies."""

    observed_generation: int = Field(default=0, ge=0, description="Of the spec that all this speaks of.")
    phase: Phase | None = Field(default=None, description="One word on where the sweep is.")
    round: int = Field(default=0, ge=0, le=100, description="Of planning and measuring what is still wanted.")
    cells: Cells | None = None
    device_seconds: DeviceSeconds | None = None
    device_hours: float | None = Field(
        default=None, ge=0, description="deviceSeconds.used in hours, for the column of kubectl get."
    )
    eta: str | None = _text(
        "eta", "About how long it will still take (40s, 12m, 3h20m), or `unknown` while nothing runs."
    )
    table_url: str | None = _text("tableUrl", "Of the newest table.")
    plan_digest: str | None = _text("planDigest", "Of the round's plan.")
    excluded_nodes: tuple[Annotated[str, Field(max_length=253)], ...] = Field(
        default=(),
        max_length=MOST_EXCLUDED,
        description="Nodes that failed twice in this round and the one before: waves that begin from then on keep away"
        " from them, or, where no well node is known, leave them what has no room elsewhere. An edit of the spec, which"
        " may mend what failed there, clears the list: a node that is sick is on it again after two more failures.",
    )
    waiting: str | None = _text("waiting", "What it waits for, if it does.")
    message: str | None = _text("message", "What a person should know or do.")
    conditions: tuple[Condition, ...] = Field(
        default=(), max_length=6, json_schema_extra=_BY_TYPE, description="At most one a type."
    )
