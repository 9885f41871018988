"""What the plugin shows as text: on a terminal in its width, in a pipe line by line, nothing wrapped."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from k8s import picture
from k8s.picture import Picture
from runner.terminal import as_table

_NO_LIMIT = 10_000
_PHASES = {"Complete": "bold green", "Failed": "bold red", "Invalid": "bold red", "Suspended": "yellow"}


def text(what: RenderableType | pd.DataFrame) -> str:
    """As it is to be printed."""
    terminal = sys.stdout.isatty()
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=Console().width if terminal else _NO_LIMIT
    )
    with console.capture() as captured:
        console.print(as_table(what) if isinstance(what, pd.DataFrame) else what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


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
        parts += _framed(rows)
    return Group(*parts)


def _framed(rows: Sequence[dict[str, str]]) -> list[RenderableType]:
    return [Text(""), as_table(pd.DataFrame(list(rows)))] if rows else []
