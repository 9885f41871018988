"""What the plugin shows as text: on a terminal in its width, in a pipe line by line, nothing wrapped."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from k8s import picture
from k8s.picture import Picture
from runner.terminal import Fitting

_NO_LIMIT = 10_000
_PHASES = {"Complete": "bold green", "Failed": "bold red", "Invalid": "bold red", "Suspended": "yellow"}


def text(what: RenderableType) -> str:
    """As it is to be printed."""
    terminal = sys.stdout.isatty()
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=Console().width if terminal else _NO_LIMIT
    )
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def table(rows: Sequence[Mapping[str, str]]) -> RenderableType:
    """Rows, at least one, all of the same columns."""
    return Fitting(list(rows[0]), (row.values() for row in rows))


def of_picture(shown: Picture) -> RenderableType:
    """A Sweep at a glance."""
    phase = shown.status.get("phase", "")
    parts: list[RenderableType] = [Text(picture.heading(shown), style=_PHASES.get(phase, "bold"))]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in picture.fields(shown):
        grid.add_row(f"  {name}", Text(value))
    parts.append(grid)
    for rows in (picture.stage_rows(shown), picture.condition_rows(shown)):
        parts += [Text(""), table(rows)] if rows else []
    return Group(*parts)
