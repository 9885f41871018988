"""Which physical cores this process may use, and how that is known. Reads /sys, /proc and cgroups.

A core counts once however many hardware threads it has: two threads of one core share its
vector units, so a measurement that took both for two cores would be wrong by up to half.
The cgroup's quota (a container's CPU limit) caps the count; the affinity mask says which.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runner.backends import Capacity

ROOT = Path("/")


@dataclass(frozen=True)
class Core:
    """One physical core: the hardware thread we run on, and all its threads that exist."""

    cpu: int
    threads: frozenset[int]


@dataclass(frozen=True)
class HostCpu:
    """Usable physical cores in the order they are given away, neighbours together; why so many."""

    cores: tuple[Core, ...]
    reason: str

    @property
    def capacity(self) -> Capacity:
        return Capacity(len(self.cores), self.reason)


def usable(*, root: Path = ROOT, affinity: frozenset[int] | None = None) -> HostCpu:
    """Physical cores in `affinity` (default: our mask), capped by the cgroup quota; at least one."""
    mask = frozenset(os.sched_getaffinity(0)) if affinity is None else affinity
    cores, known = _cores(root, mask)
    quota = cgroup_quota(root)
    count = len(cores) if quota is None else max(1, min(len(cores), math.floor(quota)))
    noun = "core" if count == 1 else "cores"
    facts = [
        f"affinity {len(mask)} of {_online(root, mask)} CPUs",
        "no cgroup quota" if quota is None else f"cgroup quota {quota:g} CPUs",
    ]
    if not known:
        facts.append("topology unknown, each CPU taken for a core")
    return HostCpu(cores[:count], f"{count} physical {noun} ({', '.join(facts)})")


def cgroup_quota(root: Path = ROOT) -> float | None:
    """CPUs that the tightest quota among this process's cgroup and its ancestors allows, or None.

    cgroup v1 and v2 are both looked at, since hosts mount them side by side.
    """
    memberships = _text(root / "proc/self/cgroup")
    mounts = _text(root / "proc/self/mountinfo")
    if memberships is None or mounts is None:
        return None
    paths = dict(_memberships(memberships))
    quotas = [
        quota
        for kind, subtree, mount in _mounts(mounts)
        if kind in paths
        for folder in _up_to(root / mount.relative_to("/"), paths[kind], subtree)
        if (quota := _quota_of(folder)) is not None
    ]
    return min(quotas, default=None)


def _cores(root: Path, mask: frozenset[int]) -> tuple[tuple[Core, ...], bool]:
    found: dict[frozenset[int], tuple[tuple[int, int, int], Core]] = {}
    known = True
    for cpu in sorted(mask):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        siblings = _text(topology / "thread_siblings_list")
        known = known and siblings is not None
        threads = parse_cpus(siblings) if siblings else frozenset({cpu})
        place = (_number(topology / "physical_package_id"), _number(topology / "core_id"), cpu)
        # The lowest allowed thread stands for its core.
        found.setdefault(threads, (place, Core(cpu, threads)))
    # By socket, then core: instances that take neighbours stay within one socket where they fit.
    return tuple(core for _, core in sorted(found.values(), key=lambda entry: entry[0])), known


def _online(root: Path, mask: frozenset[int]) -> int:
    online = _text(root / "sys/devices/system/cpu/online")
    return len(parse_cpus(online)) if online else max(len(mask), os.cpu_count() or 1)


def parse_cpus(text: str) -> frozenset[int]:
    """The kernel's list format, `0-3,8`, as a set."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _memberships(text: str) -> Iterator[tuple[str, PurePosixPath]]:
    """(`cpu` for v1 or `` for v2, path of this process's cgroup) from /proc/self/cgroup."""
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield "", PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            yield "cpu", PurePosixPath(path)


def _mounts(text: str) -> Iterator[tuple[str, PurePosixPath, PurePosixPath]]:
    """(kind, subtree mounted, mount point) of hierarchies that can hold a CPU quota: proc(5), mountinfo."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if kind[0] == "cgroup2":
            yield "", PurePosixPath(place[3]), PurePosixPath(place[4])
        elif kind[0] == "cgroup" and "cpu" in kind[-1].split(","):
            yield "cpu", PurePosixPath(place[3]), PurePosixPath(place[4])


def _up_to(mount: Path, path: PurePosixPath, subtree: PurePosixPath) -> Iterator[Path]:
    """The cgroup's folder and its ancestors within the mount.

    In a container without a cgroup namespace the path is the host's while the mount shows
    only a subtree; a path outside of it is seen as the mount itself.
    """
    inside = path.relative_to(subtree) if path.is_relative_to(subtree) else PurePosixPath()
    folder = mount / inside if ".." not in inside.parts else mount
    while folder != mount:
        yield folder
        folder = folder.parent
    yield mount


def _quota_of(folder: Path) -> float | None:
    if v2 := _text(folder / "cpu.max"):
        quota, period = v2.split()
        return None if quota == "max" else int(quota) / int(period)
    limit, window = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    if limit is None or window is None or int(limit) <= 0:
        return None
    return int(limit) / int(window)


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text else 0


def _text(path: Path) -> str | None:
    """A small kernel file's text; None where the kernel or the container doesn't show it."""
    try:
        return path.read_text().strip()
    except OSError:
        return None
