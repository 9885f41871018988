"""A test cluster to keep: `python -m tests.cluster up`, `down`; `demo` runs a Sweep on one of its own."""

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
from pathlib import Path

import click
import psutil
import yaml

from tests.cluster import binaries
from tests.cluster.cluster import Cluster, answer_of, launch, running
from tests.cluster.rig import rigged

FOLDER = Path(__file__).parents[2] / ".cluster"
QUICKSTART = Path(__file__).parents[2] / "sweeps/quickstart.yaml"
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
@click.option("--keep", is_flag=True, help="Leave all of it running until Ctrl-C.")
def demo(keep: bool) -> None:
    """The quickstart on simulated nodes: apply, watch, wait, table. Controller and pods are real programs."""
    binaries.ensure(lambda text: click.echo(f"== {text}", err=True))
    with tempfile.TemporaryDirectory(prefix="aicsweep-demo-") as folder, running(Path(folder)) as cluster:
        cluster.define_sweeps()
        cluster.add_nodes(4)
        with rigged(cluster, Path(folder)) as rig, rig.controller("default"):
            rig.shim.environments["default"] = {"AICSWEEP_FAKE": json.dumps({"sleep_s": 0.5})}
            _show_quickstart(cluster, rig.store("default"))
            if keep:
                _wait_for_interrupt(cluster)


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


def _wait_for_interrupt(cluster: Cluster) -> None:
    click.echo(f"export KUBECONFIG={cluster.kubeconfig}")
    click.echo(f"export PATH={cluster.programs['kubectl'].parent}:$PATH")
    click.echo("== it runs until Ctrl-C; Sweeps of the namespace `default` are worked on")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


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
