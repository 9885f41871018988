"""How command lines print a table: the options and what they do. `aicsweep` and `kubectl aicsweep` have the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `print_table` takes."""
    for option in (
        click.option(
            "-o",
            "--output",
            type=click.Choice(["table", "csv", "md", "json", "parquet"]),
            default="table",
            show_default=True,
        ),
        click.option("--wide", is_flag=True, help="Every column."),
        click.option(
            "--where",
            metavar="EXPR",
            help='Only these rows, e.g. "model == \'resnet50\' and batch_size > 1", "warnings or ci > 2%".',
        ),
        click.option("--best", is_flag=True, help="Only the winner of each model and objective."),
    ):
        command = option(command)
    return command


def print_table(found: pa.Table, output: str, *, best: bool, where: str | None, wide: bool) -> None:
    """What `table` prints of a sweep's table."""
    from runner import tables
    from runner.where import rows_where

    frame = tables.to_frame(rows_where(found, where) if where else found)
    if best:
        from runner.views import best_only

        frame = best_only(frame)
    print_frame(frame, output, wide=wide)


def print_frame(frame: pd.DataFrame, output: str, *, wide: bool = False) -> None:
    """A table's rows, some or all, as pandas."""
    from runner import terminal, views

    if output == "parquet":
        if sys.stdout.isatty():
            raise click.UsageError("parquet is not for a terminal: redirect it, `-o parquet > table.parquet`")
        sys.stdout.buffer.write(frame.to_parquet(index=False))
        return
    text: dict[str, Callable[[], str]] = {
        "csv": lambda: views.to_csv(frame),
        "json": lambda: frame.to_json(orient="records", lines=False, indent=1),
        "md": lambda: views.to_markdown(frame if wide else views.default_view(frame)),
    }
    if output in text:
        click.echo(text[output](), nl=output != "csv")
        return
    terminal.print_frame(frame if wide else views.default_view(frame), wide=wide)
