"""The command `aicsweep`. Each sub-command is a table of contents; work is imported when it is asked for."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner import __version__, cli_host, cli_pod, cli_store
from runner.cli_table import print_frame, print_table, table_options
from runner.command_line import EXIT_CODES, Duration, guarded
from runner.condition import of_status
from runner.errors import EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, StoreError, counted

if TYPE_CHECKING:
    from runner.spec import Sweep
    from runner.store import Store

DEFAULT_STORE = "aicsweep-results"
# Verdicts that may be asked for again by their names.
RETRIED = ("failed", "infeasible")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EXIT_CODES
)
@click.version_option(__version__, prog_name="aicsweep")
def cli() -> None:
    """Measure models over cores, instances, batch and compile options, and get one table.

    \b
    Examples:
      aicsweep plan sweeps/quickstart.yaml          what would run, and for how long
      aicsweep run sweeps/quickstart.yaml           run it here, results in ./aicsweep-results
      aicsweep table aicsweep-results --best        the winners
      aicsweep table s3://bench/aicsweep -o csv     the whole table for a spreadsheet
      aicsweep verify aicsweep-results              is each number what was measured?
    """


_backend = click.option(
    "--backend", type=click.Choice(["onnxruntime", "qaic", "fake"]), help="Instead of spec.backend."
)
_weights = click.option(
    "--weights", type=click.Choice(["pretrained", "random"]), help="Instead of spec.weights."
)
_store = click.option(
    "--store", metavar="URL", help="Folder or s3://BUCKET/PREFIX, instead of spec.results.url."
)
_file = click.argument("file", type=click.Path(path_type=Path))


@cli.command()
@_file
@_backend
@_weights
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def plan(file: Path, backend: str | None, weights: str | None, output: str) -> None:
    """Show what FILE would run: models, cells, slots, exports, binaries, lots, time and storage.

    \b
    Example: aicsweep plan sweeps/seed-all.yaml -o json
    """
    from runner import overview

    summary = overview.of_plan(_made_plan(_load(file, backend, weights)))
    click.echo(overview.as_json(summary) if output == "json" else overview.as_text(summary))


@cli.command()
@_file
@_backend
@_weights
@_store
@click.option(
    "--devices", default="all", show_default=True, metavar="IDS", help="Which cards of this host: all or 0,2."
)
@click.option(
    "--retry",
    type=click.Choice(RETRIED),
    multiple=True,
    help="Try again what failed, or what is infeasible, the compiler included; may be given twice.",
)
@click.option("--remeasure", is_flag=True, help="Measure again the rows that --where takes.")
@click.option(
    "--where", metavar="EXPR", help='With --remeasure: which rows, as for `aicsweep table`: "ci > 2%".'
)
def run(
    file: Path, backend: str | None, weights: str | None, store: str | None, devices: str, retry: tuple[str, ...],
    remeasure: bool, where: str | None,
) -> None:  # fmt: skip
    """Run FILE on this machine and print its table. What the store has already is not measured again, unless
    that is asked for: then older results are kept, and shown until there are new ones. Such a request is kept in
    the store: a run that was interrupted goes on with it by itself.

    \b
    Examples:
      aicsweep run sweeps/quickstart.yaml
      aicsweep run sweeps/quickstart.yaml --store s3://bench/aicsweep
      aicsweep run sweeps/quickstart.yaml --retry failed
      aicsweep run sweeps/quickstart.yaml --remeasure --where "warnings or ci > 2%"
    """
    from runner import backends, engine, merge, progress, scratch, standing, tables
    from runner.store import open_store

    sweep = _asking_again(_load(file, backend, weights), retry, remeasure, where)
    url = store or sweep.spec.results.url or DEFAULT_STORE
    root = open_store(url)
    given = {"backend": backend, "weights": weights, "store": store, "devices": devices}
    options = [f"--{name} {value}" for name, value in given.items() if value not in (None, "all")]
    again = " ".join(["aicsweep run", str(file), *options])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with progress.reporter() as reporter:
        loaded = backends.load(sweep.spec.backend)
        place = engine.Workplace(
            sweep,
            loaded,
            root,
            sweep.store_prefix(),
            scratch.artifact_cache(),
            reporter,
            loaded.devices(devices),
        )
        try:
            outcome = engine.run(place)
        except KeyboardInterrupt:
            reporter.say(f"\ninterrupted; what was measured is kept in {url}\nto go on: {again}")
            sys.exit(EXIT_INTERRUPTED)
    counts = merge.counts(outcome.table)
    print_frame(tables.to_frame(outcome.table), "table")
    was = "was" if outcome.reused == 1 else "were"
    reused = (
        f", {counted(outcome.reused, 'slot')} {was} measured before and not again" if outcome.reused else ""
    )
    found = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    if older := merge.count_wanted_again(outcome.table):
        found += f"; {older} of them still to be measured again"
    click.echo(f"measured {counted(outcome.measured, 'slot')}{reused}: {found}", err=True)
    click.echo(f"in all: {standing.device_time(outcome.device_s, outcome.overhead_s)}", err=True)
    click.echo(
        f"table: {place.home.url}/{outcome.table_folder}/  (table.parquet, table.csv, summary.md)", err=True
    )
    if outcome.trouble:
        doctor = "`aicsweep doctor` looks for the cause; "
        hint = doctor if outcome.exit_code == EXIT_INFRASTRUCTURE else ""
        click.echo(f"aicsweep: {outcome.trouble}\n  {hint}to go on: {again}", err=True)
    sys.exit(outcome.exit_code)


@cli.command()
@click.argument("path")
@click.option("--sweep", metavar="NAME", help="Which one, where PATH holds several.")
@click.option(
    "--link",
    is_flag=False,
    flag_value="1h",
    type=Duration("1m", "7d"),
    metavar="[TIME]",
    help="Instead, print URLs of its files on S3 that anybody may read for so long: 30m, 1h (if not said), 7d.",
)
@table_options
def table(
    path: str, sweep: str | None, link: float | None, best: bool, where: str | None, wide: bool, output: str
) -> None:
    """Print the current table of a sweep; PATH is a store or a sweep's folder in it.

    \b
    Examples:
      aicsweep table aicsweep-results --best
      aicsweep table aicsweep-results --where "status != 'ok'" --wide -o csv
      aicsweep table s3://bench/aicsweep --link=2d
    """
    from runner import tables

    home = _home(path, sweep, published=True)
    if link:
        for url in tables.links(home, int(link)):
            click.echo(url)
        return
    found, _ = tables.read_current(home)
    print_table(found, output, best=best, where=where, wide=wide)


@cli.command("merge")
@click.argument("path")
@click.option("--sweep", metavar="NAME", help="Which one, where PATH holds several.")
def merge_command(path: str, sweep: str | None) -> None:
    """Merge the results in the store anew into the table of the newest plan, also where no table is yet."""
    from contextlib import suppress

    from runner import engine, merge
    from runner.store import NotFound
    from runner.stored import newest_plan
    from runner.table_records import DamagedTable, current_of, manifest_of

    home, unreached = _home(path, sweep, published=False), None
    # What is damaged of the old table is what people merge anew for.
    with suppress(DamagedTable, NotFound):
        unreached = manifest_of(home, current_of(home).table).unreached
    merged = engine.merge_(home, newest_plan(home), unreached=unreached)
    click.echo(f"{merge.counts(merged.table)}\ntable: {home.url}/{merged.folder}/")


@cli.command()
def models() -> None:
    """List the catalogue: names, groups, families and image sizes."""
    from runner.catalogue import GROUPS, MODELS

    for model in MODELS.values():
        click.echo(f"{model.name:<22} {model.source:<40} {model.image_size} px")
    click.echo("\ngroups:")
    for name, members in GROUPS.items():
        click.echo(f"{name:<22} {len(members)} models")


cli.add_command(cli_pod.pod)
cli.add_command(cli_pod.snapshot)
cli.add_command(cli_store.verify)
cli.add_command(cli_store.status)
cli.add_command(cli_store.gc)
cli.add_command(cli_host.devices)
cli.add_command(cli_host.doctor)


def main() -> None:
    """Entry point."""
    guarded(cli, "aicsweep")


def _load(file: Path, backend: str | None, weights: str | None) -> Sweep:
    """The Sweep in `file`, with what the command's options say instead."""
    from runner.sweepfile import load_sweep

    sweep = load_sweep(file)
    given = {name: value for name, value in {"backend": backend, "weights": weights}.items() if value}
    return sweep.model_copy(update={"spec": sweep.spec.model_copy(update=given)})


def _asking_again(sweep: Sweep, retry: Sequence[str], remeasure: bool, where: str | None) -> Sweep:
    """The Sweep with one more request to measure again, if the command's options make one."""
    if remeasure != (where is not None):
        raise click.UsageError('--remeasure and --where go together: --remeasure --where "ci > 2%"')
    if retry and remeasure:
        raise click.UsageError("either --retry or --remeasure; ask for one after the other")
    if not retry and where is None:
        return sweep
    from runner import again

    request = again.asked(of_status(*dict.fromkeys(retry)) if where is None else where, datetime.now(UTC))
    spec = sweep.spec.model_copy(update={"again": (*sweep.spec.again, request)})
    return sweep.model_copy(update={"spec": spec})


def _made_plan(sweep: Sweep) -> Any:
    from runner import admission, backends, lut

    made = admission.make_plan(sweep, backends.load(sweep.spec.backend), lut.shipped())
    admission.require_budget(sweep, made)
    return made


def _home(path: str, name: str | None, *, published: bool) -> Store:
    """Folder of the one sweep that is meant; if `published`, of those that have a table."""
    from runner.stored import located
    from runner.table_records import CURRENT

    root, found = located(path)
    homes = {at: root.at(at) if at else root for at in found if name is None or name in at.split("/")}
    wanted = [at for at, home in homes.items() if not published or home.exists(CURRENT)]
    if len(wanted) == 1:
        return homes[wanted[0]]
    if not wanted:
        raise StoreError(
            f"no {'table' if published else 'sweep'} in {path}",
            remedy="`aicsweep run FILE` makes one; `--store` must be the same",
        )
    listed = "\n  ".join(wanted)
    raise click.UsageError(
        f"{path} holds several sweeps; name one with --sweep, or give its folder:\n  {listed}"
    )
