"""The process that owns a test cluster's processes: starts them, stops and starts single ones, ends them all.

    python -m tests.cluster.supervisor FOLDER [--kubeconfig FILE] [--kubelet NAME]...

Its owner talks through the standard streams: one JSON line when the cluster is ready (or why not), then an
answer a command (`stop NAME`, `start NAME`). The end of its input is the end of the cluster, so an owner that
dies in whatever way leaves nothing behind; if this process is killed itself, the kernel ends its children.

A process of its own and single-threaded, because the kernel's parent-death signal comes when the *thread*
dies that started the child.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from tests.cluster import binaries, control_plane
from tests.cluster.control_plane import Layout, Process

READY_S = 60.0
# A port found free may be taken before the server binds it.
_STARTS = 3
_PRCTL, _PR_SET_PDEATHSIG = ctypes.CDLL(None).prctl, 1


class NotReady(Exception):
    """A process ended, or was not ready in time."""


class Family:
    """The running processes, by name. Logs are appended to FOLDER/logs/NAME.log."""

    def __init__(self, folder: Path) -> None:
        self._logs = folder / "logs"
        self._logs.mkdir(exist_ok=True)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._processes: dict[str, Process] = {}

    def start(self, process: Process) -> None:
        with (self._logs / f"{process.name}.log").open("ab") as log:
            child = subprocess.Popen(
                process.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )
        self._children[process.name] = child
        self._processes[process.name] = process

    def stop(self, name: str) -> None:
        """Killed, not asked: all state is in the folder, and losing a server is what tests want to see."""
        child = self._children[name]
        child.kill()
        child.wait()

    def restart(self, name: str) -> None:
        self.stop(name)
        self.start(self._processes[name])

    def stop_all(self) -> None:
        for name in reversed(self._children):
            self.stop(name)
        self._children.clear()

    def check(self) -> None:
        """Raises NotReady with the end of the log of a process that ended by itself."""
        for name, child in self._children.items():
            if child.poll() is not None:
                tail = (self._logs / f"{name}.log").read_text(errors="replace")[-3000:]
                raise NotReady(f"{name} ended with {child.returncode}:\n{tail}")

    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}


class Owner:
    """Whoever started this process, at the other end of its standard streams."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._rest = b""

    def commands(self, wait_s: float) -> list[str]:
        """Commands that came within `wait_s`. Raises SystemExit when the owner is gone."""
        if os.getppid() != self._parent:
            # Whatever the owner forked may still hold the other end of the pipe open.
            raise SystemExit(0)
        if not select.select([0], [], [], wait_s)[0]:
            return []
        read = os.read(0, 4096)
        if not read:
            raise SystemExit(0)
        *lines, self._rest = (self._rest + read).split(b"\n")
        return [line.decode() for line in lines]

    def tell(self, **answer: object) -> None:
        """One JSON line."""
        print(json.dumps(answer), flush=True)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Simulate nodes on that cluster.")
@click.option("--kubelet", "kubelets", multiple=True, help="A real node's name: a token for its kubelet.")
def main(folder: Path, kubeconfig: Path | None, kubelets: tuple[str, ...]) -> None:
    # An owner's Ctrl-C goes to the whole process group; the end is said by closing the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    owner, family = Owner(), Family(folder)
    try:
        try:
            config = _bring_up(folder, family, owner, kubeconfig, kubelets)
        except NotReady as error:
            owner.tell(error=str(error))
            sys.exit(1)
        owner.tell(kubeconfig=str(config), pids=family.pids())
        _serve(family, owner)
    finally:
        family.stop_all()


def _serve(family: Family, owner: Owner) -> None:
    while True:
        for command in owner.commands(wait_s=1.0):
            verb, _, name = command.partition(" ")
            {"stop": family.stop, "start": family.restart}[verb](name)
            owner.tell(pids=family.pids())


def _bring_up(
    folder: Path, family: Family, owner: Owner, kubeconfig: Path | None, kubelets: Sequence[str]
) -> Path:
    """Everything started and ready. Returns the administrator's kubeconfig."""
    programs = binaries.ensure(lambda text: None)
    if kubeconfig is not None:
        family.start(control_plane.simulator(kubeconfig, programs))
        return kubeconfig
    for start in range(_STARTS):
        layout = control_plane.lay_out(folder)
        shutil.rmtree(layout.folder, ignore_errors=True)
        try:
            _start(layout, programs, family, owner, kubelets)
            return layout.kubeconfig
        except NotReady:
            family.stop_all()
            if start == _STARTS - 1:
                raise
    raise AssertionError("not reached")


def _start(
    layout: Layout, programs: Mapping[str, Path], family: Family, owner: Owner, kubelets: Sequence[str]
) -> None:
    tokens = control_plane.write_files(layout, kubelets)
    _start_all(family, control_plane.servers(layout, programs))
    _until(lambda: layout.certificate.exists() and _ok(layout, tokens["admin"], "/readyz"), family, owner)
    control_plane.write_kubeconfigs(layout, tokens)
    _start_all(family, control_plane.controllers(layout, programs))
    # Made by the controller-manager; no pod is admitted without it.
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _until(lambda: _ok(layout, tokens["admin"], account), family, owner)


def _start_all(family: Family, processes: Sequence[Process]) -> None:
    for process in processes:
        family.start(process)


def _until(ready: Callable[[], bool], family: Family, owner: Owner) -> None:
    deadline = time.monotonic() + READY_S
    while not ready():
        family.check()
        if time.monotonic() > deadline:
            raise NotReady(f"not ready after {READY_S:g} s; logs are in the cluster's folder")
        owner.commands(wait_s=0.05)


def _ok(layout: Layout, token: str, path: str) -> bool:
    request = urllib.request.Request(layout.server + path, headers={"Authorization": f"Bearer {token}"})
    try:
        context = ssl.create_default_context(cafile=str(layout.certificate))
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def _die_with_parent() -> None:
    """In the child, before exec."""
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
