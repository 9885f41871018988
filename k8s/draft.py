"""A Sweep's status in the making: what the last pass wrote, changed by this one. Pure.

Small whatever the size of the sweep: counts and one digest, never a list of cells.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from k8s.status import MESSAGE_CHARACTERS, TEXT_CHARACTERS

VALID, PROGRESSING, COMPLETE, FAILED = "Valid", "Progressing", "Complete", "Failed"
SUSPENDED, OVER_BUDGET = "Suspended", "OverBudget"
TERMINAL = (COMPLETE, FAILED)


class Draft:
    """The status of one pass. `fresh` where the Sweep was edited since the last one: all is derived anew."""

    def __init__(self, sweep: Mapping[str, Any], now: datetime) -> None:
        before = sweep.get("status") or {}
        self.now = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.generation = int(sweep["metadata"]["generation"])
        self.fresh = before.get("observedGeneration") != self.generation
        self.status: dict[str, Any] = copy.deepcopy(before)
        self.status["observedGeneration"] = self.generation
        if self.fresh:
            self.status["round"] = 1
            for name in ("message", "waiting", "eta", "excludedNodes", "planDigest"):
                self.status.pop(name, None)
            # They speak of the edited spec until this pass says otherwise.
            for name in (*TERMINAL, OVER_BUDGET):
                if self.is_true(name):
                    self.condition(name, False, "Edited", "the Sweep was edited")

    @property
    def round(self) -> int:
        return int(self.status.get("round", 1))

    def phase(self, phase: str, message: str = "") -> None:
        self.status["phase"] = phase
        self.text("message", message)

    def text(self, name: str, value: str) -> None:
        """Set a text, or take the field away where it is empty."""
        if value:
            self.status[name] = value[: TEXT_CHARACTERS[name]]
        else:
            self.status.pop(name, None)

    def is_true(self, name: str) -> bool:
        return any(c["type"] == name and c["status"] == "True" for c in self.status.get("conditions", ()))

    def told(self, name: str, value: bool) -> bool:
        """Whether an earlier pass said so of this generation."""
        status = "True" if value else "False"
        return any(
            (c["type"], c["status"], c.get("observedGeneration")) == (name, status, self.generation)
            for c in self.status.get("conditions", ())
        )

    def since(self, name: str) -> datetime | None:
        """When the condition last changed."""
        for condition in self.status.get("conditions", ()):
            if condition["type"] == name:
                return datetime.fromisoformat(condition["lastTransitionTime"])
        return None

    def condition(self, name: str, value: bool, reason: str, message: str = "") -> None:
        """Set a condition; the time changes only when its status does."""
        conditions = self.status.setdefault("conditions", [])
        new = {
            "type": name, "status": "True" if value else "False", "reason": reason,
            "message": message[:MESSAGE_CHARACTERS], "lastTransitionTime": self.now,
            "observedGeneration": self.generation,
        }  # fmt: skip
        for index, old in enumerate(conditions):
            if old["type"] == name:
                if old["status"] == new["status"]:
                    new["lastTransitionTime"] = old["lastTransitionTime"]
                conditions[index] = new
                return
        conditions.append(new)

    def count(self, **counts: int) -> None:
        self.status["cells"] = {**self.status.get("cells", {}), **counts}

    def forget_counts(self) -> None:
        """They are of a spec that is no longer wanted; less of the new one may be done."""
        self.status.pop("cells", None)

    def at_least(self, **counts: int) -> None:
        """Until a merge counts, they never fall within a generation."""
        cells = self.status.get("cells", {})
        self.count(**{name: max(value, cells.get(name, 0)) for name, value in counts.items()})

    def seconds(self, **seconds: float) -> None:
        rounded = {name: round(value) for name, value in seconds.items()}
        self.status["deviceSeconds"] = {**self.status.get("deviceSeconds", {}), **rounded}
        self.status["deviceHours"] = round(self.status["deviceSeconds"].get("used", 0) / 3600, 2)
