"""The commands that look at what a store holds: `aicsweep verify`, `status` and `gc`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from runner.command_line import CENTURY, Duration
from runner.errors import EXIT_OK, EXIT_SLOTS_FAILED, StoreError, counted

if TYPE_CHECKING:
    from runner.collect import Garbage
    from runner.store import Store

_path = click.argument("path")
_sweep = click.option("--sweep", metavar="NAME", help="Only this one, where PATH holds several.")
_output = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
# Findings shown of each sweep; -o json has all of them. One bad segment makes each of its rows' columns differ.
_SHOWN, _SHOWN_DIFFERENCES = 50, 5


@click.command()
@_path
@_sweep
@_output
def verify(path: str, sweep: str | None, output: str) -> None:
    """Prove the tables in PATH, a store or a sweep's folder in it: check every digest, compute each table anew
    from its segments, and name what is missing, altered, damaged or not merged yet. Nothing is changed.

    \b
    Exit codes: 0 all proven, 1 something differs, 2 bad input, 3 the store can't be reached.
    Examples:
      aicsweep verify aicsweep-results
      aicsweep verify s3://bench/aicsweep --sweep quickstart -o json
    """
    from dataclasses import asdict

    from runner import progress
    from runner.proof import DIFFERS
    from runner.proven_artifacts import Checked
    from runner.verify import verify as proved

    root, prefixes = _found(path, sweep)
    checked: Checked = {}
    proofs = [proved(root, prefix, progress.Lines(), checked) for prefix in prefixes]
    proven = all(proof.proven for proof in proofs)
    if output == "json":
        listed = [{**asdict(proof), "proven": proof.proven} for proof in proofs]
        click.echo(_json({"store": root.url, "proven": proven, "sweeps": listed}))
    else:
        for proof in proofs:
            causes = [finding for finding in proof.findings if finding.kind != DIFFERS][:_SHOWN]
            follows = [finding for finding in proof.findings if finding.kind == DIFFERS][:_SHOWN_DIFFERENCES]
            for finding in (*causes, *follows):
                click.echo(finding)
            if more := len(proof.findings) - len(causes) - len(follows):
                click.echo(f"... and {more:,} more (-o json lists all)")
            held = ", ".join(
                [
                    f"{proof.rows:,} rows",
                    counted(proof.segments, "segment"),
                    counted(proof.plans, "plan"),
                    counted(proof.artifacts, "artefact"),
                ]
            )
            verdict = "proven" if proof.proven else f"NOT proven, {counted(len(proof.findings), 'finding')}"
            click.echo(f"{root.url}/{proof.prefix}: {verdict} ({held})")
    sys.exit(EXIT_OK if proven else EXIT_SLOTS_FAILED)


@click.command()
@_path
@_sweep
@_output
def status(path: str, sweep: str | None, output: str) -> None:
    """Show how the sweeps in PATH, a store or a sweep's folder in it, stand by now: slots by status, what the
    devices' time went into, the table and what is not in it yet. Nothing is changed.

    \b
    Example: aicsweep status aicsweep-results -o json
    """
    from dataclasses import asdict

    from runner import standing

    root, prefixes = _found(path, sweep)
    found = [standing.of(root, prefix) for prefix in prefixes]
    if output == "json":
        listed = [{**asdict(one), "measuring_share": one.share} for one in found]
        click.echo(_json({"store": root.url, "sweeps": listed}))
        return
    for one in found:
        click.echo(standing.as_text(one))


@click.command()
@click.argument("store")
@click.option("--yes", is_flag=True, help="Remove it; without this it is only listed.")
@click.option(
    "--older-than",
    "limit_s",
    type=Duration("0s", CENTURY),
    default="1d",
    show_default=True,
    metavar="AGE",
    help="Leave what was written since: 12h, 7d. Writers at work need some minutes; the rest is for clocks.",
)
@_output
def gc(store: str, yes: bool, limit_s: float, output: str) -> None:
    """List what nothing in STORE needs any more, and with --yes remove it: artefacts that no sweep in it refers to
    or may still ask for, what killed writers left, superseded tables and empty plans, markers of old plans.
    Never a result. To let go of a sweep, delete its folder first.

    Sweeps may run and begin meanwhile: who needs what is asked anew before each hundred things. One that begins in
    the seconds after can still find an artefact that is just going: its run or pod ends with a fault of the store,
    and the next one makes anew what is gone.

    \b
    Examples:
      aicsweep gc aicsweep-results
      aicsweep gc s3://bench/aicsweep --older-than 7d --yes
    """
    from runner import collect, progress
    from runner.store import open_store

    root = open_store(store)
    found = collect.find(root, datetime.now(UTC), timedelta(seconds=limit_s), progress.Lines())
    garbage: list[Garbage] = []
    try:
        for item in collect.remove(root, found) if yes else found.garbage:
            garbage.append(item)
            if output == "text":
                click.echo(f"{item.kind:<9} {item.size_bytes / 1e6:>10.1f} MB  {item.name}")
    finally:
        # Also of a removal that ends midway: what is gone by then.
        _sum_up(root, garbage, found.blind, yes, output)


def _sum_up(
    root: Store, garbage: Sequence[Garbage], blind: Sequence[str], removed: bool, output: str
) -> None:
    total = sum(item.size_bytes for item in garbage)
    if output == "json":
        listed = [
            {"kind": g.kind, "name": g.name, "objects": len(g.objects), "size_bytes": g.size_bytes}
            for g in garbage
        ]
        summary = {
            "store": root.url,
            "removed": removed,
            "size_bytes": total,
            "garbage": listed,
            "blind": blind,
        }
        click.echo(_json(summary))
        return
    for why in blind:
        click.echo(f"no artefact is removed, as what refers to it can't be read: {why}", err=True)
    done = "removed" if removed else "could be removed (--yes does it)"
    what = (
        f"{counted(len(garbage), 'thing')}, {total / 1e6:,.1f} MB {done}" if garbage else "nothing to remove"
    )
    click.echo(f"{root.url}: {what}")


def _found(path: str, name: str | None) -> tuple[Store, list[str]]:
    """The store, and the folders of the sweeps in `path`. Raises StoreError where there are none."""
    from runner.stored import located

    root, prefixes = located(path)
    found = [at for at in prefixes if name is None or name in at.split("/")]
    if not found:
        raise StoreError(
            f"no sweep in {path}", remedy="`aicsweep run FILE` makes one; `--store` must be the same"
        )
    return root, found


def _json(content: Any) -> str:
    import orjson

    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
