"""The command `kubectl aicsweep`. Each sub-command is a table of contents; work is imported when it is asked for.

kubectl runs `kubectl-aicsweep` for it; `kubectl_complete-aicsweep` (completion.py) completes what is typed.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k8s.plugin_options import (
    Duration,
    complete,
    image_option,
    placed,
    run,
    say,
    sweep_name,
    timeout_option,
    via_option,
)
from runner import __version__
from runner.cli import EXIT_CODES, guarded
from runner.cli_table import print_table, table_options
from runner.errors import EXIT_INFRASTRUCTURE, EXIT_OK

if TYPE_CHECKING:
    from k8s.access import Access

# Of a Sweep, that one may wait for.
_CONDITIONS = ("Complete", "Suspended", "Progressing", "Valid")


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


@cli.command()
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


@cli.command()
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


@cli.command()
@sweep_name
@placed
@click.pass_context
def suspend(context: click.Context, name: str) -> None:
    """End what runs of the Sweep NAME and start nothing new; results are kept.

    \b
    Example: kubectl aicsweep suspend quickstart
    """
    _suspend(context, name, True)


@cli.command()
@sweep_name
@placed
@click.pass_context
def resume(context: click.Context, name: str) -> None:
    """Go on with the suspended Sweep NAME: what is still wanted is planned anew.

    \b
    Example: kubectl aicsweep resume quickstart
    """
    _suspend(context, name, False)


@cli.command()
@sweep_name
@click.option("--failed", is_flag=True, help="What failed; so by default.")
@click.option("--infeasible", is_flag=True, help="What is infeasible: the compiler is asked again too.")
@placed
@click.pass_context
def retry(context: click.Context, name: str, failed: bool, infeasible: bool) -> None:
    """Try again what failed in the Sweep NAME, ended or not; older results are kept. Of one that runs, the running
    work ends and is planned anew.

    \b
    Examples:
      kubectl aicsweep retry quickstart
      kubectl aicsweep retry quickstart --failed --infeasible && kubectl aicsweep wait quickstart
    """
    from runner.condition import of_status

    statuses = ["failed"] if failed or not infeasible else []
    _ask_again(context, name, of_status(*statuses, *(["infeasible"] if infeasible else [])))


@cli.command()
@sweep_name
@click.option("--where", required=True, metavar="EXPR", help="Which rows, as for `kubectl aicsweep table`.")
@placed
@click.pass_context
def remeasure(context: click.Context, name: str, where: str) -> None:
    """Measure again those slots of the Sweep NAME whose row in the table fits a condition. The old results are
    kept, and shown until there are new ones. Of one that runs, the running work ends and is planned anew.

    \b
    Examples:
      kubectl aicsweep remeasure quickstart --where "warnings or ci > 2%"
      kubectl aicsweep remeasure quickstart --where "model == 'resnet50' and cores in [7, 14]"
    """
    _ask_again(context, name, where)


@cli.command("wait")
@sweep_name
@click.option(
    "--for",
    "condition",
    type=click.Choice([f"condition={name}" for name in _CONDITIONS], case_sensitive=False),
    default=f"condition={_CONDITIONS[0]}",
    show_default=True,
)
@click.option(
    "--timeout", "limit_s", type=Duration(), default="24h", show_default=True, help="Such as 90s, 30m, 24h."
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


def main() -> None:
    """Entry point: errors meant for people become text and an exit code, never a traceback."""
    # Its warnings are of files that need not be there.
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    guarded(cli, "kubectl aicsweep")


def _snapshot(context: click.Context, name: str, via: Any, image: str, limit_s: float) -> Any:
    from k8s import results

    async def read(access: Access) -> Any:
        sweep = await access.sweep(name)
        return await results.read(access, sweep, via=via, image=image, limit_s=limit_s, say=say)

    return run(context, read)


def _ask_again(context: click.Context, name: str, where: str) -> None:
    from k8s import picture
    from runner import again

    request = again.asked(where, datetime.now(UTC))
    sweep = run(context, lambda access: access.ask_again(name, request))
    click.echo(f"sweep.aicsweep.dev/{name} asked to measure again where {where}")
    if sweep["spec"].get("suspend"):
        say(f"it is suspended: `kubectl aicsweep resume {name}`")
    elif picture.is_at_work(sweep):
        say("running work ends and is planned anew")


def _suspend(context: click.Context, name: str, value: bool) -> None:
    sweep = run(context, lambda access: access.suspend(name, value))
    word = "suspended" if value else "resumed"
    click.echo(f"sweep.aicsweep.dev/{sweep['metadata']['name']} {word}")


if __name__ == "__main__":
    main()
