"""Sub-commands of `kubectl aicsweep` that show a Sweep: how far it is, its table, its logs, its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from k8s.plugin_options import (
    image_option,
    placed,
    run,
    say,
    sweep_name,
    timeout_option,
    via_option,
)
from runner.cli_table import print_table, table_options
from runner.command_line import CENTURY, Duration

if TYPE_CHECKING:
    from k8s.access import Access

# Of a Sweep, that one may wait for.
_CONDITIONS = ("Complete", "Suspended", "Progressing", "Valid")


@click.command()
@sweep_name
@click.option("-w", "--watch", is_flag=True, help="Until it ends; the exit code is then that of its end.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@placed
@click.pass_context
def status(context: click.Context, name: str, watch: bool, output: str) -> None:
    """Show how far the Sweep NAME is, what runs where, why it waits, and what it has used.

    \b
    Examples:
      kubectl aicsweep status quickstart --watch
      kubectl aicsweep status quickstart -o json | jq .stages
    """
    from k8s import watching

    follow = watching.follow if watch else watching.look_once
    sys.exit(run(context, lambda access: follow(access, name, output)))


@click.command()
@sweep_name
@table_options
@via_option
@image_option
@timeout_option
@placed
@click.pass_context
def table(
    context: click.Context, name: str, best: bool, where: str | None, wide: bool, output: str, via: Any, image: str,
    limit_s: float,
) -> None:  # fmt: skip
    """Print the table of the Sweep NAME; of one that still runs what there is by now, headed INCOMPLETE.

    The store is read from here with your own AWS settings. Where that can't be, a pod with the Sweep's own
    Secret reads it, prints the table into its log, and is deleted; that needs the rights to create and delete
    pods and to read their logs.

    \b
    Examples:
      kubectl aicsweep table quickstart --best
      kubectl aicsweep table quickstart --where "status == 'failed'" -o csv > failed.csv
    """
    found = _snapshot(context, name, via, image, limit_s)
    if not found.published:
        done, total = found.slots
        # Programs read the others.
        click.echo(f"INCOMPLETE {done}/{total}", err=output not in ("table", "md"))
    print_table(found.table, output, best=best, where=where, wide=wide)


@click.command()
@sweep_name
@click.option(
    "--failed", is_flag=True, help="The ends of the tools' logs of cells without a number, from the store."
)
@click.option(
    "--stage", type=click.Choice(["plan", "export", "compile", "measure", "merge"]), help="Only its pods."
)
@click.option("--tail", type=click.IntRange(1), metavar="LINES", help="Only the last lines of each pod.")
@via_option
@image_option
@timeout_option
@placed
@click.pass_context
def logs(
    context: click.Context, name: str, failed: bool, stage: str | None, tail: int | None, via: Any, image: str,
    limit_s: float,
) -> None:  # fmt: skip
    """Print the logs of the pods of the Sweep NAME, or of its failed cells.

    \b
    Examples:
      kubectl aicsweep logs quickstart --stage measure --tail 20
      kubectl aicsweep logs quickstart --failed
    """
    from k8s import reading_logs

    if failed:
        found = _snapshot(context, name, via, image, limit_s)
        click.echo("\n".join(reading_logs.of_cells(found.table)))
        return
    run(context, lambda access: reading_logs.of_pods(access, name, stage or "", tail, click.echo))


@click.command("wait")
@sweep_name
@click.option(
    "--for",
    "condition",
    type=click.Choice([f"condition={name}" for name in _CONDITIONS], case_sensitive=False),
    default=f"condition={_CONDITIONS[0]}",
    show_default=True,
)
@click.option(
    "--timeout",
    "limit_s",
    type=Duration("1ms", CENTURY, plain=True),
    default="24h",
    show_default=True,
    help="Such as 90s, 30m, 24h.",
)
@placed
@click.pass_context
def wait_command(context: click.Context, name: str, condition: str, limit_s: float) -> None:
    """Wait until the Sweep NAME is Complete, or until it can't become so.

    \b
    Exit codes with --for condition=Complete: 0 every slot ok, 1 some slots failed, 2 the Sweep is invalid or over its
    budget, 3 the cluster, store or devices failed, or time was up. With another condition: 0 once it is true.
    Example: kubectl aicsweep wait quickstart --timeout 2h && kubectl aicsweep table quickstart --best
    """
    from k8s import watching

    wanted = condition.removeprefix("condition=")
    sys.exit(run(context, lambda access: watching.wait(access, name, wanted, limit_s)))


def _snapshot(context: click.Context, name: str, via: Any, image: str, limit_s: float) -> Any:
    from k8s import results

    async def read(access: Access) -> Any:
        sweep = await access.sweep(name)
        return await results.read(access, sweep, via=via, image=image, limit_s=limit_s, say=say)

    return run(context, read)
