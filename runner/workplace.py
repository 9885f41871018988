"""Where a sweep is worked on: its store, tools, devices and who watches. Handed to the engine's five functions."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from runner import keys, lut, plan, provenance
from runner.backends import Backend, Capacity, Device, host_cpu
from runner.inflight import Attempt
from runner.spec import EVERY_DEVICE, EVERY_NODE, Sweep
from runner.store import Store


class Reporter(Protocol):
    """Where progress goes: a terminal, plain lines, or nowhere. Called from several threads."""

    def stage(self, name: str, total: int, estimate_s: float) -> None:
        """A stage begins, perhaps beside others; `total` steps, about `estimate_s` seconds (0: unknown)."""

    def step(self, stage: str, label: str, outcome: str, estimate_s: float) -> None:
        """One step of a stage ended, and with it `estimate_s` of the stage's estimate."""

    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class Workplace:
    """`root` is the store, `prefix` the sweep's folder in it, `cache` a local folder for artefacts.

    `targets` leads from each target to its node, `node` is ours in a cluster. `writer` names us in
    segments. `capacity` is that of the devices where these are not here (a plan made in a cluster). `cores` are
    this host's, as far as we may use them.
    """

    sweep: Sweep
    backend: Backend
    root: Store
    prefix: str
    cache: Path
    reporter: Reporter
    devices: Sequence[Device] = ()
    targets: Mapping[str, str] = field(default_factory=lambda: plan.ANYWHERE)
    node: str = ""
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    capacity: Capacity | None = None
    cores: int = field(default_factory=lambda: cores_here())
    lut_table: lut.LutTable = field(default_factory=lut.shipped)
    # What earlier runs on this machine, or pods with this piece of work, died with.
    attempt: Attempt = field(default_factory=Attempt)

    @property
    def home(self) -> Store:
        return self.root.at(self.prefix)

    def target_of(self, device: Device) -> str:
        """What slots call a device: `node/k` in a cluster, whose plan knows no serials, else its own name."""
        return keys.device_target(self.node, self.devices.index(device)) if self.node else device.target


def cores_here() -> int:
    """Logical CPUs that this process may use."""
    count, quota = len(os.sched_getaffinity(0)), host_cpu.cgroup_quota()
    return count if quota is None else max(1, min(count, int(quota)))


def targets_here(sweep: Sweep, devices: Sequence[Device]) -> Mapping[str, str]:
    """The targets of a sweep that runs on this machine alone."""
    host = provenance.host()["host"]
    if sweep.spec.placement == EVERY_NODE:
        return {host: host}
    if sweep.spec.placement == EVERY_DEVICE:
        return {device.target: host for device in devices}
    return plan.ANYWHERE
