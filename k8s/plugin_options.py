"""What the sub-commands of `kubectl aicsweep` have in common: options, where to ask, how to run."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner.command_line import CENTURY, Duration
from runner.errors import AicsweepError

if TYPE_CHECKING:
    from k8s.access import Access, Where

# Somebody is waiting with a finger on the tab key.
_ANSWER_S = 3.0

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Given before the sub-command or after it, as kubectl's own options."""
    given = context.find_root().ensure_object(dict)
    if value is not None:
        given[parameter.name] = value
    return value


_PLACE: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-n", "--namespace"), {"metavar": "NAME", "help": "By default the context's."}),
    (("--context",), {"metavar": "NAME", "help": "Of the kubeconfig."}),
    (("--kubeconfig",), {"metavar": "FILE", "help": "Instead of KUBECONFIG."}),
    (
        ("--request-timeout", "request_s"),
        {
            "type": Duration("1s", "600s", plain=True),
            "help": "Of one request to the cluster: 30s by default.",
        },
    ),
)


def placed(command: Command) -> Command:
    """With the options of where to ask."""
    for names, how in reversed(_PLACE):
        command = click.option(*names, callback=_keep, expose_value=False, **how)(command)
    return command


def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of Sweeps that begin so."""
    return [name for name in sweep_names(where(context)) if name.startswith(incomplete)]


def sweep_names(where: Where) -> list[str]:
    """Of the namespace; none where the cluster can't be asked in time."""
    from k8s.access import access

    async def ask() -> list[str]:
        async with access(where) as entered:
            return await entered.sweep_names()

    try:
        return asyncio.run(asyncio.wait_for(ask(), _ANSWER_S))
    except (AicsweepError, TimeoutError):
        return []


sweep_name = click.argument("name", shell_complete=complete)
timeout_option = click.option(
    "--timeout",
    "limit_s",
    type=Duration("1ms", CENTURY, plain=True),
    default="2m",
    show_default=True,
    help="Of a pod that is started: 90s, 2m.",
)
image_option = click.option(
    "--image", default="", metavar="IMAGE", help="Of a pod that is started, by default the Sweep's."
)
via_option = click.option(
    "--via",
    type=click.Choice(["auto", "here", "pod"]),
    default="auto",
    show_default=True,
    help="Read the store from here, through a pod, or here if that can be.",
)


def where(context: click.Context) -> Where:
    from k8s.access import Where

    return Where(**context.find_root().ensure_object(dict))


def run(context: click.Context, work: Callable[[Access], Coroutine[Any, Any, T]]) -> T:
    """Do the work with access to the cluster. SIGTERM ends it like Ctrl-C: pods that were started go first."""
    from k8s.access import access

    async def within() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with access(where(context)) as entered:
            return await work(entered)

    try:
        return asyncio.run(within())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def say(text: str) -> None:
    click.echo(text, err=True)
