"""What a pass decides to do: the vocabulary between `decide` and `reconcile`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Create:
    """Create a Job. One of the same name that is ours already is success."""

    manifest: dict[str, Any]


@dataclass(frozen=True)
class Delete:
    """Delete a Job. `foreground` keeps it until its pods are gone, so that one can wait for what they write."""

    name: str
    uid: str
    foreground: bool = False


@dataclass(frozen=True)
class Patch:
    """Merge `body` into a Job."""

    name: str
    body: dict[str, Any]


Action = Create | Delete | Patch


@dataclass(frozen=True)
class Event:
    """An Event on the Sweep; `type` is Normal or Warning."""

    type: str
    reason: str
    message: str


@dataclass
class Decision:
    """`status` is the whole status to write; `requeue_s`: look again then, even if nothing happens."""

    status: dict[str, Any]
    actions: list[Action] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    requeue_s: float | None = None
