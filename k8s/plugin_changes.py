"""Sub-commands of `kubectl aicsweep` that change a Sweep: whether it goes on, and what is measured again."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from k8s.plugin_options import placed, run, say, sweep_name


@click.command()
@sweep_name
@placed
@click.pass_context
def suspend(context: click.Context, name: str) -> None:
    """End what runs of the Sweep NAME and start nothing new; results are kept.

    \b
    Example: kubectl aicsweep suspend quickstart
    """
    _suspend(context, name, True)


@click.command()
@sweep_name
@placed
@click.pass_context
def resume(context: click.Context, name: str) -> None:
    """Go on with the suspended Sweep NAME: what is still wanted is planned anew.

    \b
    Example: kubectl aicsweep resume quickstart
    """
    _suspend(context, name, False)


@click.command()
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


@click.command()
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
