"""A data frame on a terminal: colours there, plain columns in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 120
# Between columns: a padding, and the divider of SIMPLE_HEAD.
_GAP = 2
_COLOURS = {"ok": "", "ok, best": "bold green", "ok, tie": "green", "failed": "red", "infeasible": "yellow"}
# Sentences; all else stays on one line.
_WRAPPED = {"warnings", "where", "message", "state"}
_RIGHT = {"batch", "cores×i", "set", "images/s", "p95 ms", "vs LUT"}


def print_frame(frame: pd.DataFrame, *, wide: bool = False) -> None:
    """Print `frame`; at most 120 columns unless `wide`."""
    console = Console(width=None if sys.stdout.isatty() and not wide else (10_000 if wide else WIDTH))
    columns, rows = list(frame.columns), list(frame.astype(str).itertuples(index=False))
    console.print(Fitting(columns, rows))


class Fitting:
    """A table, once the console says how much room there is: where it is not enough everything may be wrapped,
    since half a number is none."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
        self._columns, self._rows = list(columns), [list(row) for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self._columns, self._rows, folded=_width(self._columns, self._rows) > options.max_width)


def _width(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Characters that a table takes in which only sentences are wrapped, at their spaces."""
    width = 0
    for name, *values in zip(columns, *rows, strict=True):
        texts = [name, *values]
        width += _GAP + max(
            len(word) for text in texts for word in (text.split() if name in _WRAPPED else [text]) or [""]
        )
    return width - _GAP


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, folded: bool) -> Table:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), collapse_padding=True
    )
    for name in columns:
        justify: JustifyMethod = "right" if name in _RIGHT else "left"
        wrapped = folded or name in _WRAPPED
        table.add_column(
            name, justify=justify, no_wrap=not wrapped, overflow="fold" if folded else "ellipsis"
        )
    for values in rows:
        row = dict(zip(columns, values, strict=True))
        table.add_row(*(Text(v, style=_COLOURS.get(v, "") if n == "status" else "") for n, v in row.items()))
    return table
