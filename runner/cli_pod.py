"""What a cluster's pods run: `aicsweep pod STAGE`, with all they need in the environment (docs/pods.md), and
`aicsweep snapshot` for `kubectl aicsweep table`."""

from __future__ import annotations

import os
import sys

import click

STAGES = ("plan", "export", "compile", "measure", "merge")


@click.command(hidden=True)
@click.argument("stage", type=click.Choice(STAGES))
def pod(stage: str) -> None:
    """Do one stage of a sweep as the environment says; for pods that the controller starts.

    \b
    Exit codes: 0 done, 1 all of it failed and is recorded, 2 bad input or configuration,
    3 store, host or device, 143 asked to end.
    """
    from runner.pod import main

    code = main(stage, os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    # All that lasts is in the store. Not by way of the interpreter's end, which waits for threads: a
    # download under way would use up what is left of a pod's grace period.
    os._exit(code)


@click.command(hidden=True)
@click.argument("folder")
@click.option("--plan", "digest", default="", help="Merge what there is of this plan by now.")
def snapshot(folder: str, digest: str) -> None:
    """Print the table of a sweep's FOLDER in a store as text for programs; nothing is written to the store."""
    from runner import snapshot as snapshots
    from runner.store import open_store

    for line in snapshots.to_lines(snapshots.take(open_store(folder), digest)):
        click.echo(line)
