"""A data frame on a terminal: colours there, plain columns in a pipe."""

from __future__ import annotations

import sys

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 120
_COLOURS = {"ok": "", "ok, best": "bold green", "ok, tie": "green", "failed": "red", "infeasible": "yellow"}
# Sentences; all else stays on one line.
_WRAPPED = {"warnings", "where", "message", "state", "found", "do"}
_RIGHT = {"batch", "cores×i", "set", "images/s", "p95 ms", "vs LUT"}


def print_frame(frame: pd.DataFrame, *, wide: bool = False) -> None:
    """Print `frame`; at most 120 columns unless `wide`."""
    console = Console(width=None if sys.stdout.isatty() and not wide else (10_000 if wide else WIDTH))
    console.print(as_table(frame))


def as_table(frame: pd.DataFrame) -> Table:
    """The frame for a console."""
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), collapse_padding=True
    )
    for name in frame.columns:
        table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=name not in _WRAPPED)
    for values in frame.astype(str).itertuples(index=False):
        row = dict(zip(frame.columns, values, strict=True))
        table.add_row(*(Text(v, style=_COLOURS.get(v, "") if n == "status" else "") for n, v in row.items()))
    return table
