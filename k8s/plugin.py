"""The command `kubectl aicsweep`. Each sub-command is a table of contents; work is imported when it is asked for.

kubectl runs `kubectl-aicsweep` for it; `kubectl_complete-aicsweep` (completion.py) completes what is typed.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k8s import plugin_changes, plugin_views
from k8s.plugin_options import complete, image_option, placed, run, say, timeout_option
from runner import __version__
from runner.command_line import EXIT_CODES, guarded
from runner.errors import EXIT_INFRASTRUCTURE, EXIT_OK

if TYPE_CHECKING:
    from k8s.access import Access


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="kubectl aicsweep")
@placed
def cli() -> None:
    """Sweeps in a cluster: what a file would run, how far one is, its table, its logs.

    \b
    Examples:
      kubectl aicsweep plan sweep.yaml             what would run, and on what
      kubectl apply -f sweep.yaml
      kubectl aicsweep status quickstart --watch   how far it is, what runs where, why it waits
      kubectl aicsweep table quickstart --best     the winners so far
      kubectl aicsweep retry quickstart            what failed, once more
      kubectl aicsweep doctor                      what stands in the way on the device nodes
    """


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@placed
@click.pass_context
def plan(context: click.Context, file: Path, output: str) -> None:
    """Show what FILE would run in this cluster, and what its device nodes offer. Nothing is applied.

    \b
    Example: kubectl aicsweep plan sweep.yaml -n team-a
    """
    from k8s import forecast

    async def look(access: Access) -> None:
        click.echo(forecast.shown(await forecast.made(access, file), output))

    run(context, look)


@cli.command()
@click.argument("name", required=False, shell_complete=complete)
@click.option("--store", default="", metavar="URL", help="Also try this store; by default the Sweep's.")
@image_option
@timeout_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@placed
@click.pass_context
def doctor(
    context: click.Context, name: str | None, store: str, image: str, limit_s: float, output: str
) -> None:
    """Look for what stands in the way of measuring, on each device node, as a measure pod of NAME would see it.

    A pod with one device is started on each node, looks, and is deleted. Without NAME it is one for cards, with
    the image of the namespace's last Sweep.

    \b
    Exit codes: 0 nothing is broken, 3 something is.
    Examples:
      kubectl aicsweep doctor quickstart
      kubectl aicsweep doctor --image registry/aicsweep-measure:1.2 --store s3://bench/aicsweep
    """
    from k8s import probe

    async def look(access: Access) -> bool:
        found = await probe.findings(access, name, store, image, limit_s, say)
        click.echo(probe.shown(found, output))
        return any(finding.level == "bad" for finding in found)

    sys.exit(EXIT_INFRASTRUCTURE if run(context, look) else EXIT_OK)


cli.add_command(plugin_views.status)
cli.add_command(plugin_views.table)
cli.add_command(plugin_views.logs)
cli.add_command(plugin_views.wait_command)
cli.add_command(plugin_changes.suspend)
cli.add_command(plugin_changes.resume)
cli.add_command(plugin_changes.retry)
cli.add_command(plugin_changes.remeasure)


def main() -> None:
    """Entry point: errors meant for people become text and an exit code, never a traceback."""
    # Its warnings are of files that need not be there.
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    guarded(cli, "kubectl aicsweep")


if __name__ == "__main__":
    main()
