"""Real nodes on this machine: network, cgroups, namespaces, and their end. Needs root.

`running` starts a janitor (`python -m tests.nodes.host`), which owns all of it and lives as long as the pipe
to it: whatever becomes of the test run, the machine is left as it was. What a janitor that was killed itself
leaves behind (a bridge, empty cgroups, files) the next one removes. Only one runs at a time.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.cluster.binaries import cache_folder
from tests.cluster.control_plane import Process
from tests.cluster.supervisor import Family, Owner
from tests.nodes import node as node_process
from tests.nodes.layout import BRIDGE, DEVICE_GROUP, GATEWAY, SERVICE, Node, kubelet_config

ROOT = Path(__file__).parents[2]
CGROUPS = Path("/sys/fs/cgroup")
# A character device's numbers that no container may open unless it is told so: those of /dev/fuse, which
# opens without a driver's help.
DEVICE_NUMBERS = (10, 229)


@dataclass
class Nodes:
    """The running nodes, in the hands of a test."""

    folder: Path
    nodes: Mapping[str, Node]
    janitor: subprocess.Popen[str]

    def do(self, do: str, /, **order: Any) -> Any:
        return node_process.command(self.janitor, do=do, **order)

    def stop(self, node: str, process: str) -> None:
        """Kill kubelet, containerd or device-plugin of a node; its pods stay."""
        self.do("node", node=node, order={"do": "stop", "process": process})

    def start(self, node: str, process: str) -> None:
        """Anew, if need be after killing it."""
        self.do("node", node=node, order={"do": "start", "process": process})

    def load(self, archives: Sequence[Path]) -> None:
        """Images of `buildah.thin`, for all nodes."""
        self.do("load", archives=[str(path) for path in archives])

    def switch(self, place: str, on: bool) -> None:
        """Whether a forward answers."""
        self.do("switch", place=place, on=on)

    def configure_kubelet(self, node: str, **settings: Any) -> None:
        """Other settings than `layout.kubelet_config`, and a kubelet that begins anew with them."""
        config = {**kubelet_config(self.nodes[node]), **settings}
        (self.folder / node / "kubelet.json").write_text(json.dumps(config))
        self.start(node, "kubelet")

    def set_healthy(self, node: str, device: str, healthy: bool) -> None:
        mark = self.folder / node / "devices" / f"{device}.unhealthy"
        mark.unlink(missing_ok=True) if healthy else mark.touch()

    def log(self, node: str, process: str) -> str:
        return (self.folder / node / "logs" / f"{process}.log").read_text(errors="replace")


@contextmanager
def running(
    nodes: Sequence[Node],
    kubeconfigs: Mapping[str, Path],
    programs: Mapping[str, Path],
    forwards: Mapping[str, int],
    admin: Path,
    logs: Path,
) -> Iterator[Nodes]:
    """Nodes that have begun, without images.

    `kubeconfigs` are the kubelets', `admin` is the administrator's. `forwards` says which port of this machine's
    loopback is reached at ADDRESS:PORT (of `layout`). Logs are copied to `logs` at the end. Raises RuntimeError.
    """
    order = {
        "nodes": [asdict(node) for node in nodes],
        "kubeconfigs": {name: str(path) for name, path in kubeconfigs.items()},
        "programs": {name: str(path) for name, path in programs.items()},
        "forwards": forwards,
        "admin": str(admin),
        "logs": str(logs),
    }
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "janitor.log").open("ab") as log:
        janitor = subprocess.Popen(
            [sys.executable, "-m", "tests.nodes.host"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            # Ctrl-C is for the test run; the janitor ends with its pipe.
            start_new_session=True,
        )  # fmt: skip
    try:
        told = node_process.command(janitor, do="begin", **order)
        yield Nodes(Path(told["folder"]), {node.name: node for node in nodes}, janitor)
    finally:
        assert janitor.stdin is not None
        with suppress(BrokenPipeError):
            janitor.stdin.close()
        if janitor.wait():
            raise RuntimeError(f"the janitor did not end well: {(logs / 'janitor.log').read_text()[-2000:]}")


class Host:
    """The janitor's side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._nodes: dict[str, subprocess.Popen[str]] = {}
        self._servers = Family(folder)
        self._logs: Path | None = None

    def begin(self, order: Mapping[str, Any]) -> None:
        self._logs = Path(order["logs"])
        nodes = [Node(**each) for each in order["nodes"]]
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        _run("ip", "address", "add", f"{SERVICE}/32", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for place, port in order["forwards"].items():
            self._forward(place, port)
        names = [sys.executable, "-m", "tests.nodes.dns", order["admin"], GATEWAY]
        self._servers.start(Process("dns", names))
        for node in nodes:
            _make_cgroups(node)
            self._launch(node, Path(order["kubeconfigs"][node.name]))
        programs = order["programs"]

        def begin(node: Node) -> None:
            routes = {other.pods: other.address for other in nodes if other != node}
            node_process.command(self._nodes[node.name], do="begin", programs=programs, routes=routes)

        _at_once(begin, nodes)

    def _launch(self, node: Node, kubeconfig: Path) -> None:
        folder = self.folder / node.name
        (folder / "devices").mkdir(parents=True)
        (folder / "node.json").write_text(json.dumps(asdict(node)))
        config = yaml.safe_load(kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://{SERVICE}"
        (folder / "kubeconfig").write_text(yaml.safe_dump(config))
        for number in range(node.devices):
            device = folder / "devices" / f"accel{number}"
            os.mknod(device, stat.S_IFCHR, os.makedev(*DEVICE_NUMBERS))
            device.chmod(0o660)
            os.chown(device, 0, DEVICE_GROUP)
        with (folder / "node.log").open("ab") as log:
            process = subprocess.Popen(
                node_process.launch(folder),
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._nodes[node.name] = process
        # Its namespaces are there now.
        node_process.answer(process)
        ends = [
            "ip",
            "link",
            "add",
            node.link,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(process.pid),
        ]
        _run(*ends)
        _run("ip", "link", "set", node.link, "master", BRIDGE, "up")
        _run("ip", "route", "add", node.pods, "via", node.address, "dev", BRIDGE)

    def _forward(self, place: str, port: int) -> None:
        address, _, listen = place.partition(":")
        here = f"TCP-LISTEN:{listen},bind={address},fork,reuseaddr,backlog=128"
        self._servers.start(Process(place, ["socat", here, f"TCP:127.0.0.1:{port}"]))

    def switch(self, place: str, on: bool) -> None:
        """Whether ADDRESS:PORT answers; connections that are open are cut."""
        if on:
            self._servers.restart(place)
            return
        connections = psutil.Process(self._servers.pids()[place]).children()
        self._servers.stop(place)
        for connection in connections:
            with suppress(psutil.NoSuchProcess):
                connection.kill()

    def node(self, name: str, order: Mapping[str, Any]) -> None:
        node_process.command(self._nodes[name], **order)

    def load(self, order: Mapping[str, Any], ctr: str) -> None:
        for process in self._nodes.values():
            node_process.command(process, do="import", archives=order["archives"], ctr=ctr)

    def end(self) -> None:
        for process in self._nodes.values():
            process.kill()
        for process in self._nodes.values():
            process.wait()
        self._servers.stop_all()
        if self._logs:
            for name in self._nodes:
                shutil.copytree(self.folder / name / "logs", self._logs / name, dirs_exist_ok=True)
        remove_leftovers(self.folder)


def traces() -> dict[str, list[str]]:
    """What of this machine nodes change while they run."""
    rules = ["iptables-save"] if shutil.which("iptables-save") else ["true"]
    commands = {"links": ["ip", "-brief", "link"], "routes": ["ip", "route"], "rules": rules}
    found = {
        name: sorted(_rule(line) for line in _run(*each).splitlines()) for name, each in commands.items()
    }
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {
        **found,
        "mounts": sorted(line for line in mounts if "aicsweep" in line),
        "cgroups": sorted(str(path) for path in CGROUPS.glob("*/aicsweep-*")),
        "forward": [Path("/proc/sys/net/ipv4/ip_forward").read_text()],
        "files": sorted(path.name for path in _folder().iterdir() if path.is_dir()),
    }


def _rule(line: str) -> str:
    """Without the time and the counters that iptables-save writes."""
    return "" if line.startswith("#") else line.partition("[")[0]


def _folder() -> Path:
    folder = cache_folder().parent / "nodes"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clear() -> None:
    """The machine as it was before a run that was killed with its janitor; waits for one that is under way."""
    with _lock():
        remove_leftovers(_folder())


@contextmanager
def _lock() -> Iterator[None]:
    with (_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_leftovers(folder: Path) -> None:
    """What a run that was killed left behind: there can't be a process of it."""
    for link in Path("/sys/class/net").glob(f"{BRIDGE}*"):
        with suppress(RuntimeError):
            _run("ip", "link", "delete", link.name)
        # A cable goes with the namespace at its other end, maybe at this moment.
        if link.exists():
            raise RuntimeError(f"the network link {link.name} can't be removed")
    for cgroup in CGROUPS.glob("*/aicsweep-node-*"):
        _remove_cgroup(cgroup)
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)


def _make_cgroups(node: Node) -> None:
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


def _at_once(work: Any, nodes: Sequence[Node]) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(work, nodes))


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    """Until the pipe ends."""
    folder = _folder()
    owner, ctr = Owner(), ""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _lock():
        remove_leftovers(folder)
        host = Host(folder)
        try:
            while True:
                for line in owner.commands(wait_s=1.0):
                    order = json.loads(line)
                    try:
                        match order["do"]:
                            case "begin":
                                ctr = order["programs"]["ctr"]
                                host.begin(order)
                            case "node":
                                host.node(order["node"], order["order"])
                            case "load":
                                host.load(order, ctr)
                            case "switch":
                                host.switch(order["place"], order["on"])
                        owner.tell(folder=str(folder))
                    except Exception as error:
                        owner.tell(error=f"{type(error).__name__}: {error}")
        finally:
            host.end()


if __name__ == "__main__":
    main()
