"""`aicsweep pod STAGE`: what a cluster's pods run. All they need is in the environment (docs/pods.md)."""

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
