"""A test cluster to keep: `python -m tests.cluster up`, `down`."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import click
import psutil

from tests.cluster import binaries
from tests.cluster.cluster import Cluster, answer_of, launch

FOLDER = Path(__file__).parents[2] / ".cluster"
_STOP_S = 20.0

_folder = click.option(
    "--folder", type=click.Path(path_type=Path), default=FOLDER, help="Where the cluster's files lie."
)


@click.group()
def main() -> None:
    """A Kubernetes for tests, on this machine: a real control plane, simulated nodes."""


@main.command()
@_folder
@click.option("--nodes", default=4, show_default=True, help="Simulated nodes with 8 devices each.")
def up(folder: Path, nodes: int) -> None:
    """Start it, and print what to export."""
    if _pid(folder):
        raise click.ClickException(f"there is one already below {folder}; `down` ends it")
    shutil.rmtree(folder, ignore_errors=True)
    programs = binaries.ensure(lambda text: click.echo(f"== {text}", err=True))
    supervisor = launch(folder, detached=True)
    try:
        answer = answer_of(supervisor)
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    cluster = Cluster(folder, Path(answer["kubeconfig"]), answer["pids"], programs, supervisor)
    if nodes:
        cluster.add_nodes(nodes)
    click.echo(f"export KUBECONFIG={cluster.kubeconfig}")
    click.echo(f"export PATH={programs['kubectl'].parent}:$PATH")


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
    """The running supervisor's of that folder; its number may have gone to another program since."""
    try:
        process = psutil.Process(int((folder / "supervisor.pid").read_text()))
        ours = str(folder.absolute()) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, psutil.Error):
        return None
    return process.pid if ours else None


if __name__ == "__main__":
    main(prog_name="python -m tests.cluster")
