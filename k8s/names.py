"""Names and labels of a Sweep's children. Functions of content, so that creating is safe to repeat. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

GROUP, VERSION, PLURAL = "aicsweep.dev", "v1alpha1", "sweeps"

PLAN, EXPORT, COMPILE, MEASURE, MERGE = "plan", "export", "compile", "measure", "merge"

LABEL_SWEEP, LABEL_UID = f"{GROUP}/sweep", f"{GROUP}/sweep-uid"
LABEL_STAGE, LABEL_PLAN, LABEL_WAVE = f"{GROUP}/stage", f"{GROUP}/plan", f"{GROUP}/wave"
LABEL_GENERATION, LABEL_ROUND = f"{GROUP}/generation", f"{GROUP}/round"
LABEL_TARGET = f"{GROUP}/target"
# On a plan Job: the nodes it plans for, in order, as JSON.
ANNOTATION_TARGETS = f"{GROUP}/targets"
MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "aicsweep"
CONTAINER = "aicsweep"

# A label's value has at most 63 characters; 64 bits tell the plans of one sweep apart.
PLAN_LABEL_DIGITS = 16


def plan_job(sweep: Mapping[str, Any], round_number: int) -> str:
    """Name of a round's plan Job; a new generation plans anew."""
    meta = sweep["metadata"]
    return f"{meta['name']}-{_short(meta['uid'], str(meta['generation']), str(round_number))}-{PLAN}"


def job(
    sweep: Mapping[str, Any], plan: str, stage: str, wave: int | None = None, target: int | None = None
) -> str:
    """Name of a Job that works on the plan of digest `plan`."""
    meta = sweep["metadata"]
    parts = [meta["name"], _short(meta["uid"], plan), stage]
    return "-".join([*parts, *(str(number) for number in (wave, target) if number is not None)])


def _short(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
