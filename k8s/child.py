"""What a Sweep's Jobs are made for: the Sweep, and what the cluster's operator has set. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.pod_settings import Pods
from runner.spec import Sweep


@dataclass(frozen=True)
class Defaults:
    """What the cluster's operator has set and a Sweep may leave open."""

    cluster: str = "local"
    store: str = ""
    secret_name: str = ""
    build_image: str = "aicsweep-build"
    measure_image: str = "aicsweep-measure"
    pull_policy: str = "IfNotPresent"
    pods: Pods = field(default_factory=Pods)
    # Variables of every pod.
    proxies: Mapping[str, str] = field(default_factory=dict)

    def completed(self, sweep: Sweep) -> Sweep:
        """The Sweep with what it says of its pods, and for the rest what is said here."""
        ours, theirs = self.pods.model_dump(), sweep.spec.pods.model_dump(exclude_unset=True)
        for name in ("build", "measure"):
            theirs[name] = {**ours[name], **theirs.get(name, {})}
        pods = Pods.model_validate({**ours, **theirs})
        return sweep.model_copy(update={"spec": sweep.spec.model_copy(update={"pods": pods})})


@dataclass(frozen=True)
class Child:
    """What a manifest is made for: the Sweep as the API server has it, and as our model."""

    object: Mapping[str, Any]
    sweep: Sweep
    defaults: Defaults
    round: int

    @property
    def store(self) -> str:
        return self.sweep.spec.results.url or self.defaults.store
