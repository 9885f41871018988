"""`kubectl aicsweep status` and `wait`: one Sweep, looked at once or until it is as wanted.

It is asked for again every few seconds, not watched: what is shown comes from three kinds of objects, and a
terminal needs no more than that. An API server that is away for a while is waited for.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import click
import orjson
from rich.live import Live

from k8s import picture, render
from k8s.access import Access
from k8s.api import Object
from k8s.api_errors import LoggedOut, Unavailable
from k8s.picture import Picture
from runner.errors import EXIT_INFRASTRUCTURE, EXIT_OK

_LOOK_S = 2.0
# Longer than an API server takes to be replaced by another.
_AWAY_S = 120.0


async def look(access: Access, name: str) -> Picture:
    """The Sweep, its Jobs and its pods at work. Raises BadInput, ApiError."""
    sweep = await access.sweep(name)
    jobs, pods = await access.jobs(sweep), await access.pods(sweep, at_work=True)
    return picture.picture(sweep, jobs, pods, datetime.now(UTC))


async def look_once(access: Access, name: str, output: str) -> int:
    _show(await look(access, name), output)
    return EXIT_OK


async def follow(access: Access, name: str, output: str) -> int:
    """Show it until it has ended; the exit code of its end."""
    if output == "text" and sys.stdout.isatty():
        with Live(auto_refresh=False) as live:
            return await _until_ended(
                access, name, lambda seen: live.update(render.of_picture(seen), refresh=True)
            )
    if output == "text":
        return await _until_ended(access, name, _changes())
    return await _until_ended(
        access, name, lambda seen: click.echo(orjson.dumps(picture.as_dict(seen)).decode())
    )


async def _until_ended(access: Access, name: str, show: Callable[[Picture], None]) -> int:
    patience = _Patience()
    while True:
        try:
            seen = await look(access, name)
        except Unavailable as error:
            patience.failed(error)
        else:
            patience.succeeded()
            show(seen)
            if end := picture.ended(seen.sweep):
                return end.code
        await asyncio.sleep(_LOOK_S)


def _show(seen: Picture, output: str) -> None:
    if output == "json":
        click.echo(orjson.dumps(picture.as_dict(seen), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(render.text(render.of_picture(seen)))


def _changes() -> Callable[[Picture], None]:
    """A line with the time whenever something is new, and the whole picture at the end."""
    told = ""

    def show(seen: Picture) -> None:
        nonlocal told
        line = picture.line(seen)
        if line != told:
            told = line
            click.echo(f"{seen.now.astimezone():%H:%M:%S} {line}")
        if picture.ended(seen.sweep):
            _show(seen, "text")

    return show


async def wait(access: Access, name: str, condition: str, limit_s: float) -> int:
    """Until the condition is true of the Sweep as it is, or can't become so; the exit code."""
    deadline, patience, told = time.monotonic() + limit_s, _Patience(), ""
    sweep: Object = {}
    while True:
        try:
            sweep = await access.sweep(name)
        except Unavailable as error:
            patience.failed(error)
        else:
            patience.succeeded()
            code = _decided(sweep, condition)
            if code is not None:
                return code
            if picture.is_true(sweep, "Suspended") and not told:
                told = f"{name} is suspended: `kubectl aicsweep resume {name}` lets it go on"
                click.echo(told, err=True)
        if time.monotonic() > deadline:
            status = sweep.get("status") or {}
            waiting = f"; it waits: {status['waiting']}" if status.get("waiting") else ""
            text = (
                f"time is up after {limit_s:g} s: {name} is {status.get('phase', 'not looked at')}{waiting}"
            )
            click.echo(text, err=True)
            return EXIT_INFRASTRUCTURE
        await asyncio.sleep(min(_LOOK_S, max(0.0, deadline - time.monotonic()) + 0.01))


def _decided(sweep: Object, condition: str) -> int | None:
    """Pure but for what it says. The exit code once there is one."""
    end = picture.ended(sweep)
    if condition == "Complete" and end:
        click.echo(end.text, err=end.code != EXIT_OK)
        return end.code
    if picture.is_true(sweep, condition):
        click.echo(f"{condition}: {picture.condition(sweep, condition)['reason']}")
        return EXIT_OK
    if end:
        click.echo(f"it will not become {condition}: {end.text}", err=True)
        return end.code or EXIT_INFRASTRUCTURE
    return None


class _Patience:
    """With an API server that doesn't answer: a while, said once."""

    def __init__(self) -> None:
        self._since: float | None = None

    def succeeded(self) -> None:
        self._since = None

    def failed(self, error: Unavailable) -> None:
        """Raises the error where waiting is of no use, or no more."""
        now = time.monotonic()
        if isinstance(error, LoggedOut) or (self._since is not None and now - self._since > _AWAY_S):
            raise error
        if self._since is None:
            self._since = now
            click.echo(f"{error.message}; trying again", err=True)
