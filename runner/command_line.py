"""What the command lines `aicsweep` and `kubectl aicsweep` have in common: how they end, and times as typed."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import click

from runner.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, AicsweepError

EXIT_CODES = """\b
Exit codes: 0 every slot ok, 1 some slots failed, 2 bad input, 3 store, host or device, 130 interrupted."""

# A bound where any will do: nothing here lasts as long, and a time of 3,000,000 d is no date any more.
CENTURY = "36500d"

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART = re.compile(rf"(\d+(?:\.\d+)?)({'|'.join(_UNITS_S)})")


class Duration(click.ParamType[float]):
    """Seconds, written as `90s`, `30m`, `1h30m`, `7d`, from `least` to `most`; with `plain`, as for kubectl's own
    options, also as a number of seconds."""

    name = "time"

    def __init__(self, least: str, most: str, *, plain: bool = False) -> None:
        self._least, self._most, self._plain = least, most, plain

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = f"{value}s" if self._plain and re.fullmatch(r"\d+(\.\d+)?", str(value)) else str(value)
        if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
            self.fail(f"{value!r} is no time such as 90s, 30m, 24h or 7d", param, ctx)
        found_s = _seconds(text)
        if not _seconds(self._least) <= found_s <= _seconds(self._most):
            self.fail(f"{value!r} must be at least {self._least} and at most {self._most}", param, ctx)
        return found_s


def _seconds(text: str) -> float:
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def guarded(command: click.Command, name: str) -> None:
    """Run a command line: errors meant for people become text and an exit code, never a traceback."""
    try:
        command(standalone_mode=False, prog_name=name)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except AicsweepError as error:
        click.echo(f"{name}: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # `aicsweep table ... | head`: the reader has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
