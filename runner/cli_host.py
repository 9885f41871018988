"""The commands that look at this host: `aicsweep devices` and `aicsweep doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from runner.errors import EXIT_INFRASTRUCTURE, EXIT_OK, BadInput, Problem

_sdk = click.option(
    "--sdk", metavar="DIR", type=click.Path(path_type=Path), help="The vendor's SDK, by default /opt/qti-aic."
)
_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "bad": ("BAD", "red")}


@click.command()
@_sdk
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def devices(sdk: Path | None, output: str) -> None:
    """List the AIC100 cards of this host: what they are, who uses them, how warm they are.

    \b
    Example: aicsweep devices -o json
    """
    from runner.backends.qaic import device
    from runner.backends.qaic import sdk as sdks

    rows = [_row(card) for card in device.query(sdks.find(sdk))]
    if output == "json":
        import orjson

        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    import pandas as pd

    from runner.terminal import print_frame

    print_frame(pd.DataFrame([_shown(row) for row in rows]))


@click.command()
@_sdk
@click.option("--store", metavar="URL", help="Also try this store: a folder or s3://BUCKET/PREFIX.")
@click.option("--only", metavar="CHECK", help="Only the checks of this name, e.g. store.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(sdk: Path | None, store: str | None, only: str | None, output: str) -> None:
    """Look for what stands in the way of a sweep on this host; each line is ok, or says what to do.

    \b
    Exit codes: 0 nothing is broken, 3 something is.
    Example: aicsweep doctor --store s3://bench/aicsweep
    """
    from runner import doctor as checks

    broken, found = False, False
    for check in checks.examine(sdk, store):
        if only not in (None, check.name):
            continue
        found = True
        broken = broken or check.level == "bad"
        if output == "json":
            # A line each, at once: a check that never comes back must not take the others with it.
            click.echo(checks.as_json(check))
            continue
        mark, colour = _MARKS[check.level]
        click.echo(f"{click.style(f'{mark:<4}', fg=colour)} {check.name:<12} {check.text}")
        if check.remedy:
            click.echo(f"{'':<17} -> {check.remedy}")
    if not found:
        raise BadInput(
            [Problem("--only", f"{only} is none of the checks made here", "see them all without it")]
        )
    sys.exit(EXIT_INFRASTRUCTURE if broken else EXIT_OK)


def _row(card: Any) -> dict[str, Any]:
    """A card in SI units; None is unknown."""
    from runner.backends.qaic import bench, locks

    return {
        "qid": card.qid,
        "serial": card.serial,
        "sku": card.sku or None,
        "status": card.status or None,
        "nsps_free": card.nsp_free,
        "nsps_total": card.nsp_total,
        "temperature_c": card.temperature_c,
        "power_w": card.power_w,
        "firmware": card.firmware or None,
        "dram_total_bytes": card.dram_total_bytes,
        "locked_by_pid": locks.holder(bench.lock_name(card.serial)) or None,
    }


def _shown(row: dict[str, Any]) -> dict[str, str]:
    def text(name: str) -> str:
        value = row[name]
        return "?" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    return {
        "QID": text("qid"),
        "serial": text("serial"),
        "SKU": text("sku"),
        "status": text("status"),
        "NSPs free": f"{text('nsps_free')}/{text('nsps_total')}",
        "°C": text("temperature_c"),
        "W": text("power_w"),
        "firmware": text("firmware"),
        "locked by": row["locked_by_pid"] or "",
    }
