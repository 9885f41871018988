"""What real nodes change on this machine: how that is seen, locked against a second run, and undone. Needs root."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.cluster.binaries import cache_folder
from tests.nodes.layout import BRIDGE, Node

ROOT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")


def traces() -> dict[str, list[str]]:
    """What of this machine nodes change while they run."""
    rules = ["iptables-save"] if shutil.which("iptables-save") else ["true"]
    commands = {"links": ["ip", "-brief", "link"], "routes": ["ip", "route"], "rules": rules}
    found = {name: sorted(_rule(line) for line in run(*each).splitlines()) for name, each in commands.items()}
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {
        **found,
        "mounts": sorted(line for line in mounts if "aicsweep" in line),
        "cgroups": sorted(str(path) for path in CGROUPS.glob("*/aicsweep-*")),
        "forward": [Path("/proc/sys/net/ipv4/ip_forward").read_text()],
        "files": sorted(path.name for path in folder().iterdir() if path.is_dir()),
    }


def _rule(line: str) -> str:
    """Without the time and the counters that iptables-save writes."""
    return "" if line.startswith("#") else line.partition("[")[0]


def folder() -> Path:
    """What a run writes lies there."""
    found = cache_folder().parent / "nodes"
    found.mkdir(parents=True, exist_ok=True)
    return found


def clear() -> None:
    """The machine as it was before a run that was killed with its janitor; waits for one that is under way."""
    with lock():
        remove_leftovers()


@contextmanager
def lock() -> Iterator[None]:
    """Nodes of one run at a time; waited for."""
    with (folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_leftovers() -> None:
    """What a run that was killed left behind: there can't be a process of it."""
    for link in Path("/sys/class/net").glob(f"{BRIDGE}*"):
        with suppress(RuntimeError):
            run("ip", "link", "delete", link.name)
        # A cable goes with the namespace at its other end, maybe at this moment.
        if link.exists():
            raise RuntimeError(f"the network link {link.name} can't be removed")
    for cgroup in CGROUPS.glob("*/aicsweep-node-*"):
        _remove_cgroup(cgroup)
    for entry in folder().iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)


def make_cgroups(node: Node) -> None:
    """The kubelet wants the root that it is given in every hierarchy (version 1)."""
    for hierarchy in CGROUPS.iterdir():
        if (hierarchy / "cgroup.procs").exists() and hierarchy.name != "unified":
            made = hierarchy / node.cgroup
            made.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (hierarchy / setting).exists():
                    (made / setting).write_text((hierarchy / setting).read_text())


def _remove_cgroup(cgroup: Path) -> None:
    deadline = time.monotonic() + 20
    for path in [*sorted((p for p in cgroup.rglob("*") if p.is_dir()), reverse=True), cgroup]:
        while path.exists():
            try:
                path.rmdir()
            except OSError:
                # The last process of a namespace is gone a moment after its first.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def run(*command: str) -> str:
    """What it says. Raises RuntimeError with its words where it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
