"""Real nodes in the hands of a test: begun, stopped, told what to do. Needs root.

`running` starts a janitor (`python -m tests.nodes.janitor`), which owns all of it and lives as long as the pipe
to it: whatever becomes of the test run, the machine is left as it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.nodes import node as node_process
from tests.nodes.host import ROOT
from tests.nodes.layout import Node, kubelet_config


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
            [sys.executable, "-m", "tests.nodes.janitor"],
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
