"""The first process of a node: `python -m tests.nodes.node FOLDER`, started by the janitor.

It has network, mount and pid namespaces of its own. When it ends, in whatever way, the kernel ends all that
runs on the node and takes mounts and network away. /var/lib, /run and /var/log are the node's own, below
FOLDER, so that containerd, kubelet and device plugin lie where they lie on any machine.

It reads commands from its standard input, a line each, and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import Process
from tests.cluster.supervisor import Family, NotReady, Owner
from tests.nodes.buildah import LAYER
from tests.nodes.layout import GATEWAY, RESOURCE, Node, cni_config, containerd_config, kubelet_config

_READY_S = 60.0
_CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
WANTED_BY_KUBELET = {
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}
_SNAPSHOTS = Path("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots")
_SIDE_FOLDERS = {"var-lib": "/var/lib", "run": "/run", "log": "/var/log"}


def main(folder: Path) -> None:
    """As the init process: a child does the work, orphans are reaped."""
    child = os.fork()
    if child:
        while os.wait()[0] != child:
            pass
        return
    node = Node(**json.loads((folder / "node.json").read_text()))
    owner, family = Owner(), Family(folder)
    owner.tell(node=node.name)
    try:
        while True:
            for line in owner.commands(wait_s=1.0):
                try:
                    _obey(json.loads(line), node, folder, family)
                    owner.tell(pids=family.pids())
                except (NotReady, OSError, subprocess.CalledProcessError) as error:
                    owner.tell(error=f"{node.name}: {_words(error)}")
    finally:
        family.stop_all()


def _obey(command: dict[str, Any], node: Node, folder: Path, family: Family) -> None:
    match command["do"]:
        case "begin":
            _mount(folder)
            _connect(node, command["routes"])
            _start(node, folder, family, command["programs"])
        case "import":
            for archive in command["archives"]:
                _import(command["ctr"], archive)
        case "stop":
            family.stop(command["process"])
        case "start":
            family.restart(command["process"])


def _mount(folder: Path) -> None:
    """This node's own folders; and the machine's kernel settings out of the kubelet's reach."""
    for name, path in _SIDE_FOLDERS.items():
        (folder / name).mkdir(exist_ok=True)
        _run("mount", "--bind", str(folder / name), path)
    Path("/var/lib/kubelet/device-plugins").mkdir(parents=True)
    settings = Path("/run/net-settings")
    settings.mkdir()
    _run("mount", "--bind", "/proc/sys/net", str(settings))
    _run("mount", "--bind", "/proc/sys", "/proc/sys")
    _run("mount", "-o", "remount,ro,bind", "/proc/sys")
    _run("mount", "--bind", str(settings), "/proc/sys/net")
    # It ends where it can't have these as it wants them.
    for number, (name, value) in enumerate(WANTED_BY_KUBELET.items()):
        if Path("/proc/sys", name).exists():
            file = Path(f"/run/setting-{number}")
            file.write_text(value)
            _run("mount", "--bind", str(file), f"/proc/sys/{name}")


def _connect(node: Node, routes: dict[str, str]) -> None:
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    _run("ip", "route", "add", "default", "via", GATEWAY)
    for pods, address in routes.items():
        _run("ip", "route", "add", pods, "via", address)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _start(node: Node, folder: Path, family: Family, programs: dict[str, str]) -> None:
    cni = folder / "cni"
    cni.mkdir()
    (cni / "10-bridge.conflist").write_text(json.dumps(cni_config(node)))
    (folder / "containerd.toml").write_text(containerd_config(cni, node.pause))
    (folder / "kubelet.json").write_text(json.dumps(kubelet_config(node)))
    family.start(Process("containerd", [programs["containerd"], "--config", str(folder / "containerd.toml")]))
    deadline = time.monotonic() + _READY_S
    while not _CONTAINERD_SOCKET.exists():
        family.check()
        if time.monotonic() > deadline:
            raise NotReady("containerd does not answer; see its log")
        time.sleep(0.05)
    plugin = [programs["device-plugin"], RESOURCE, str(folder / "devices")]
    kubelet = [
        programs["kubelet"],
        f"--config={folder / 'kubelet.json'}",
        f"--kubeconfig={folder / 'kubeconfig'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--node-labels={','.join(f'{name}={value}' for name, value in node.labels.items())}",
    ]
    family.start(Process("kubelet", kubelet))
    if node.devices:
        family.start(Process("device-plugin", plugin))


def _import(ctr: str, archive: str) -> None:
    """An image of `tests.nodes.buildah.thin`: unpacked by the node's own snapshotter, then each layer is put where
    it says."""
    _run(ctr, "--namespace=k8s.io", "images", "import", "--digests=false", archive)
    for mark in _SNAPSHOTS.glob(f"*/fs/{LAYER}"):
        content = mark.read_text()
        shutil.rmtree(mark.parent)
        mark.parent.symlink_to(content)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{' '.join(error.cmd)} ended with {error.returncode}: {error.stderr.strip()[-2000:]}"
    return str(error)


def command(process: subprocess.Popen[str], /, **order: Any) -> Any:
    """The answer of the node that `process` is. Raises RuntimeError if that is an error."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    told = json.loads(line) if line else {"error": "a node's first process ended; see its log"}
    if "error" in told:
        raise RuntimeError(told["error"])
    return told


def launch(folder: Path) -> Sequence[str]:
    """The command that makes a node's namespaces and its first process in them."""
    namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    inner = [sys.executable, "-m", "tests.nodes.node", str(folder)]
    return ["unshare", *namespaces, "--propagation", "private", *inner]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
