"""`python -m tests.nodes demo`: the chart, the quickstart and its table on real nodes, each command shown."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from pathlib import Path

import click

from tests.nodes import bench as benches
from tests.nodes import release


@click.group()
def main() -> None:
    """A Kubernetes with real nodes, on this machine (root)."""


@main.command()
@click.option("--keep", is_flag=True, help="Leave all of it running until Ctrl-C.")
def demo(keep: bool) -> None:
    """Install, apply the quickstart, watch, table. ONNX Runtime measures in pods; these cards are only files."""
    benches.make(lambda text: click.echo(f"== {text}"))
    with (
        tempfile.TemporaryDirectory(prefix="aicsweep-nodes-") as folder,
        benches.running(Path(folder)) as bench,
    ):
        shell = release.Shell(bench, click.echo)
        file = release.prepare(bench, "bench", benches.BUILDER)
        shell.run("kubectl", "get", "nodes", "-o", "wide")
        shell.run("cat", str(file))
        release.install(shell, "bench", file)
        shell.run("helm", "test", release.RELEASE, "-n", "bench")
        release.tour(bench, shell, "bench")
        if keep:
            click.echo(f"export KUBECONFIG={bench.cluster.kubeconfig}")
            click.echo(f"export PATH={bench.cluster.programs['kubectl'].parent}:$PATH")
            click.echo("== it runs until Ctrl-C")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()


if __name__ == "__main__":
    main(prog_name="python -m tests.nodes")
