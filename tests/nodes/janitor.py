"""Owns real nodes, their network and what they are served: `python -m tests.nodes.janitor`, started by `control`.

It lives as long as the pipe to it, and takes all of it away then. What a janitor that was killed itself leaves
behind (a bridge, empty cgroups, files) the next one removes. Only one runs at a time.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.cluster.control_plane import Process
from tests.cluster.supervisor import Family, Owner
from tests.nodes import host
from tests.nodes import node as node_process
from tests.nodes.host import ROOT
from tests.nodes.layout import BRIDGE, DEVICE_GROUP, GATEWAY, SERVICE, Node

# A character device's numbers that no container may open unless it is told so: those of /dev/fuse, which
# opens without a driver's help.
DEVICE_NUMBERS = (10, 229)


class Janitor:
    """What it is told to do, and the end of all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._nodes: dict[str, subprocess.Popen[str]] = {}
        self._servers = Family(folder)
        self._logs: Path | None = None

    def begin(self, order: Mapping[str, Any]) -> None:
        self._logs = Path(order["logs"])
        nodes = [Node(**each) for each in order["nodes"]]
        host.run("ip", "link", "add", BRIDGE, "type", "bridge")
        host.run("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        host.run("ip", "address", "add", f"{SERVICE}/32", "dev", BRIDGE)
        host.run("ip", "link", "set", BRIDGE, "up")
        for place, port in order["forwards"].items():
            self._forward(place, port)
        names = [sys.executable, "-m", "tests.nodes.dns", order["admin"], GATEWAY]
        self._servers.start(Process("dns", names))
        for node in nodes:
            host.make_cgroups(node)
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
        ends = ["type", "veth", "peer", "name", "eth0", "netns", str(process.pid)]
        host.run("ip", "link", "add", node.link, *ends)
        host.run("ip", "link", "set", node.link, "master", BRIDGE, "up")
        host.run("ip", "route", "add", node.pods, "via", node.address, "dev", BRIDGE)

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
        host.remove_leftovers()


def main() -> None:
    """Until the pipe ends."""
    folder = host.folder()
    owner, ctr = Owner(), ""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with host.lock():
        host.remove_leftovers()
        janitor = Janitor(folder)
        try:
            while True:
                for line in owner.commands(wait_s=1.0):
                    order = json.loads(line)
                    try:
                        match order["do"]:
                            case "begin":
                                ctr = order["programs"]["ctr"]
                                janitor.begin(order)
                            case "node":
                                janitor.node(order["node"], order["order"])
                            case "load":
                                janitor.load(order, ctr)
                            case "switch":
                                janitor.switch(order["place"], order["on"])
                        owner.tell(folder=str(folder))
                    except Exception as error:
                        owner.tell(error=f"{type(error).__name__}: {error}")
        finally:
            janitor.end()


def _at_once(work: Any, nodes: Sequence[Node]) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(work, nodes))


if __name__ == "__main__":
    main()
