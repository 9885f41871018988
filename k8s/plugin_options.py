"""What the sub-commands of `kubectl aicsweep` have in common: options, where to ask, how to run."""

from __future__ import annotations

import asyncio
import math
import re
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner.errors import AicsweepError

if TYPE_CHECKING:
    from k8s.access import Access, Where

# Somebody is waiting with a finger on the tab key.
_ANSWER_S = 3.0

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_PART = re.compile(rf"(\d+(?:\.\d+)?)({'|'.join(_UNITS_S)})")


class Duration(click.ParamType[float]):
    """Seconds, written as kubectl takes them: `90s`, `2m`, `1h30m`, or a plain number."""

    name = "time"

    def __init__(self, *, least_s: float = 0.001, most_s: float = math.inf) -> None:
        self._least_s, self._most_s = least_s, most_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = f"{value}s" if re.fullmatch(r"\d+(\.\d+)?", str(value)) else str(value)
        if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
            self.fail(f"{value!r} is no time such as 90s, 30m or 24h", param, ctx)
        found_s = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
        if not self._least_s <= found_s <= self._most_s:
            most = f" and at most {self._most_s:g}s" if self._most_s < math.inf else ""
            self.fail(f"{value!r} must be at least {self._least_s:g}s{most}", param, ctx)
        return found_s


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
            "type": Duration(least_s=1, most_s=600),
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
    type=Duration(),
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
