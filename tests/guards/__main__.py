"""Takes each guard out of a copy of the code and shows the test that fails then; exit code 1 if none does.

python -m tests.guards [NAME...]      names of guards, or of lists: `controller` is tests/guards/controller.toml
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from tests.guards.guards import Guard, Verdict, copy_tree, guards, named, pytest_in, without


@click.command()
@click.argument("names", nargs=-1)
def main(names: Sequence[str]) -> None:
    """Take guards out, all or those of these NAMES, and show which test fails then."""
    try:
        wanted = named(guards(), names)
        _check_untouched(wanted)
        verdicts = [_tell(_verdict(guard)) for guard in wanted]
    except (LookupError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    survived = [verdict for verdict in verdicts if not verdict.killed_by]
    click.echo(f"{len(verdicts)} guards, {len(survived)} that no test misses")
    for verdict in survived:
        click.echo(f"\n{verdict.guard.name}: {verdict.guard.why}\n{verdict.said}")
    sys.exit(1 if survived else 0)


def _check_untouched(wanted: Sequence[Guard]) -> None:
    """A test that fails anyway proves nothing."""
    ids = sorted({test for guard in wanted for test in guard.tests})
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        copy_tree(Path(folder))
        done = pytest_in(Path(folder), *ids)
    if done.returncode:
        raise RuntimeError(f"tests fail with all guards in place\n{done.stdout[-3000:]}")


def _verdict(guard: Guard) -> Verdict:
    if guard.places() != 1:
        raise RuntimeError(f"{guard.name}: `old` is {guard.places()} times in {guard.file}, not once")
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        copy_tree(Path(folder))
        return without(guard, Path(folder))


def _tell(verdict: Verdict) -> Verdict:
    killed_by = verdict.killed_by or "SURVIVED"
    name = f"{verdict.guard.list}/{verdict.guard.name}"
    click.echo(f"{name:56} {killed_by:90} {verdict.seconds:5.1f} s")
    return verdict


if __name__ == "__main__":
    main(prog_name="python -m tests.guards")
