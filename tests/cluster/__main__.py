"""A test cluster to keep, with all that works on Sweeps: `python -m tests.cluster up`, `down`; `demo` runs a
Sweep on one of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import psutil
import yaml

from tests.cluster import binaries
from tests.cluster.cluster import Cluster, answer_of, running
from tests.cluster.rig import rigged

_ROOT = Path(__file__).parents[2]
FOLDER = _ROOT / ".cluster"
QUICKSTART = _ROOT / "sweeps/quickstart.yaml"
_PID = "keeper.pid"
_STOP_S = 20.0

_folder = click.option(
    "--folder", type=click.Path(path_type=Path), default=FOLDER, help="Where the cluster's files lie."
)
_nodes = click.option("--nodes", default=4, show_default=True, help="Simulated nodes with 8 devices each.")


@click.group()
def main() -> None:
    """A Kubernetes for tests, on this machine: a real control plane, simulated nodes."""


@main.command()
@_folder
@_nodes
def up(folder: Path, nodes: int) -> None:
    """Start one that works on the Sweeps of its namespace `default`, and print what to export."""
    if _pid(folder):
        raise click.ClickException(f"there is one already below {folder}; `down` ends it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    programs = binaries.ensure(_say)
    with (folder / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.cluster",
                "keep",
                f"--folder={folder.absolute()}",
                f"--nodes={nodes}",
            ],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        answer = answer_of(keeper)
    except RuntimeError as error:
        raise click.ClickException(f"{error}; more is in {folder / 'keeper.log'}") from error
    click.echo(f"export KUBECONFIG={answer['kubeconfig']}")
    click.echo(f"export PATH={programs['kubectl'].parent}:$PATH")
    click.echo(f"# results: {answer['store']}")


@main.command(hidden=True)
@_folder
@_nodes
def keep(folder: Path, nodes: int) -> None:
    """What `up` leaves running: all of it, until SIGTERM. One line of JSON says where it is."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # `down` ends also one that is still starting.
    (folder / _PID).write_text(str(os.getpid()))
    with _working(folder, nodes) as (cluster, store):
        print(json.dumps({"kubeconfig": str(cluster.kubeconfig), "store": str(store)}), flush=True)
        # `up` reads no more, and a word into its pipe would end all.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
        while True:
            signal.pause()


@main.command()
def demo() -> None:
    """The quickstart on simulated nodes: apply, watch, wait, table. Controller and pods are real programs."""
    binaries.ensure(_say)
    with (
        tempfile.TemporaryDirectory(prefix="aicsweep-demo-") as name,
        _working(Path(name), 4) as (cluster, store),
    ):
        _show_quickstart(cluster, store)


@contextlib.contextmanager
def _working(folder: Path, nodes: int) -> Iterator[tuple[Cluster, Path]]:
    """A cluster that serves Sweeps, and whose controller and pods work on those of `default`; the results' store."""
    with running(folder) as cluster:
        cluster.define_sweeps()
        names = cluster.add_nodes(nodes) if nodes else []
        with rigged(cluster, folder) as rig, rig.controller("default"):
            rig.answer_logs(*names)
            # As slow that one can watch.
            rig.shim.environments["default"] = {"AICSWEEP_FAKE": json.dumps({"sleep_s": 0.5})}
            yield cluster, rig.store("default")


def _say(text: str) -> None:
    click.echo(f"== {text}", err=True)


def _show_quickstart(cluster: Cluster, store: Path) -> None:
    """Each command is shown, then run, as a user would type it."""
    document = yaml.safe_load(QUICKSTART.read_text())
    document["spec"] |= {"backend": "fake", "limits": {"lotMinutes": 1}}
    file = cluster.folder / "quickstart.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))

    def run(*command: str, background: bool = False) -> subprocess.Popen[bytes]:
        click.secho(
            "$ " + " ".join(Path(word).name if word == str(file) else word for word in command), bold=True
        )
        process = subprocess.Popen(command, env=cluster.environment())
        if not background:
            process.wait()
        return process

    click.echo(f"== {QUICKSTART.name} with made-up numbers: backend fake, 0.5 s a cell")
    run("kubectl", "apply", "-f", str(file))
    watch = run("kubectl", "get", "sweeps", "--watch", background=True)
    try:
        run("kubectl", "wait", "--for=condition=Complete", "sweep/quickstart", "--timeout=300s")
    finally:
        watch.terminate()
        watch.wait()
    run("kubectl", "get", "jobs")
    run("kubectl", "describe", "sweep", "quickstart")
    click.secho("$ aicsweep table STORE", bold=True)
    subprocess.run([str(Path(sys.executable).with_name("aicsweep")), "table", str(store)], check=True)


@main.command()
@_folder
def down(folder: Path) -> None:
    """End it and remove its files."""
    pid = _pid(folder)
    if pid:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while _pid(folder):
            if time.monotonic() > deadline:
                raise click.ClickException(f"process {pid} has not ended after {_STOP_S:g} s")
            time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)
    click.echo("no cluster is running" if not pid else "ended")


def _pid(folder: Path) -> int | None:
    """The running keeper's of that folder; its number may have gone to another program since."""
    try:
        process = psutil.Process(int((folder / _PID).read_text()))
        ours = (
            f"--folder={folder.absolute()}" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
        )
    except (FileNotFoundError, ValueError, psutil.Error):
        return None
    return process.pid if ours else None


if __name__ == "__main__":
    main(prog_name="python -m tests.cluster")
