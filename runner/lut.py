"""The vendor's look-up table: tuned parameters and published figures of (model, objective).

`lut_cv_classifiers.csv` holds facts published by the vendor (fp16, a card of 14 NSPs).
An empty field is *absent*: the default applies, nothing is zero. There is no fall-back to
another objective's row.
"""

from __future__ import annotations

import contextlib
import csv
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from runner.errors import BadInput, Problem

FILE_NAME = "lut_cv_classifiers.csv"
# One number of cores, or one for each cluster of single-device partitioning.
MOS, MOS_REMEDY = re.compile(r"[1-9][0-9]*(,[1-9][0-9]*)*"), "a whole number of at least 1, or such as 1,7"


@dataclass(frozen=True)
class LutRow:
    """One row. None where the table is blank; throughput in images/s, latency (p95 of a batch) in seconds."""

    batch_size: int | None = None
    image_size: int | None = None
    cores: int | None = None
    instances: int | None = None
    ols: int | None = None
    mos: str | None = None
    extra: str | None = None
    set_size: int | None = None
    throughput_images_s: float | None = None
    latency_p95_s: float | None = None


LutTable = Mapping[tuple[str, str], LutRow]


@cache
def shipped() -> LutTable:
    """The table that ships with aicsweep, keyed by (model name, objective)."""
    return _parse(files("runner").joinpath(FILE_NAME).read_text("utf-8"), FILE_NAME)


def read(path: Path) -> LutTable:
    """A table of the user's own in the vendor's format. Raises BadInput naming line and column."""
    try:
        return _parse(path.read_text("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput([Problem(str(path), f"can't be read: {error}")]) from error


def _parse(text: str, source: str) -> LutTable:
    rows: dict[tuple[str, str], LutRow] = {}
    problems: list[Problem] = []
    reader = csv.DictReader(text.splitlines())
    needed = {"MODEL_NAME", "OBJECTIVE", "PRECISION"}
    if missing := needed - set(reader.fieldnames or ()):
        raise BadInput([Problem(source, f"columns missing: {', '.join(sorted(missing))}")])
    for record in reader:
        fields = {name: (value or "").strip() for name, value in record.items() if name}
        if not any(fields.values()) or fields["PRECISION"] != "fp16":
            continue
        key = (fields["MODEL_NAME"], fields["OBJECTIVE"])
        where = f"{source}:{reader.line_num}"
        if key in rows:
            problems.append(Problem(where, f"second row for {key[0]}, {key[1]}"))
            continue
        rows[key] = LutRow(
            **{name: _integer(fields, name.upper(), where, problems) for name in _INTEGER_FIELDS},
            mos=_mos(fields, where, problems),
            extra=_flags(fields, where, problems),
            throughput_images_s=_number(fields, "THPS", where, problems),
            latency_p95_s=_milliseconds(_number(fields, "LATENCY", where, problems)),
        )
    if problems:
        raise BadInput(problems)
    return rows


_INTEGER_FIELDS = ("batch_size", "image_size", "cores", "instances", "ols", "set_size")


def _integer(fields: Mapping[str, str], column: str, where: str, problems: list[Problem]) -> int | None:
    value = _number(fields, column, where, problems)
    if value is None:
        return None
    if not value.is_integer() or value < 1:
        problems.append(Problem(where, f"{column} is {fields[column]!r}", "a whole number of at least 1"))
        return None
    return int(value)


def _number(fields: Mapping[str, str], column: str, where: str, problems: list[Problem]) -> float | None:
    text = fields.get(column, "")
    if not text:
        return None
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    problems.append(Problem(where, f"{column} is {text!r}", "a number or nothing"))
    return None


def _mos(fields: Mapping[str, str], where: str, problems: list[Problem]) -> str | None:
    text = "".join(fields.get("MOS", "").split())
    if text and not MOS.fullmatch(text):
        problems.append(Problem(where, f"MOS is {text!r}", MOS_REMEDY))
        return None
    return text or None


def _flags(fields: Mapping[str, str], where: str, problems: list[Problem]) -> str | None:
    text = " ".join(fields.get("EXTRA", "").split())
    try:
        shlex.split(text)
    except ValueError as error:
        problems.append(Problem(where, f"EXTRA is {text!r}: {error}", "flags as a shell would split them"))
        return None
    return text or None


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else value / 1000
