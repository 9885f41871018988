"""What a command line says: its words as values, or everything that is wrong with them."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import lut
from runner.classify.options import ONNXRUNTIME, OPTIONS, Option, parser, spelled_out
from runner.errors import BadInput, Problem


@dataclass(frozen=True)
class Given:
    """What the command line says; None where it is silent. Empty `mos` and `extra` are explicit: none."""

    model_name: str
    objective: str | None = None
    opset: int | None = None
    batch_size: int | None = None
    image_size: int | None = None
    cores: int | None = None
    instances: int | None = None
    ols: int | None = None
    mos: str | None = None
    set_size: int | None = None
    extra: str | None = None
    time: int | None = None
    device: int | None = None
    run_only: bool = False
    backend: str | None = None
    weights: str | None = None
    lut: Path | None = None
    sdk: Path | None = None
    timeout: int | None = None


def parse(argv: Sequence[str]) -> Given:
    """Read the command line. Raises BadInput with everything that is wrong with the values, SystemExit (0 for
    help, 2) where argparse can't make sense of the words."""
    texts = vars(parser().parse_args(spelled_out(argv)))
    problems: list[Problem] = []
    values = {o.field: _value(o, texts[o.field], problems) for o in OPTIONS if texts[o.field] is not None}
    if values.get("backend") == ONNXRUNTIME and "sdk" in values:
        problems.append(
            Problem("--sdk", f"means nothing with --backend {ONNXRUNTIME}", "leave one of them out")
        )
    if problems:
        raise BadInput(problems)
    return Given(**values, run_only=texts["run_only"])


def _value(option: Option, text: str, problems: list[Problem]) -> Any:
    """The value of an option's text; what is wrong with it is added to `problems`."""
    where = f"--{option.name}"
    if option.choices and text not in option.choices:
        near = difflib.get_close_matches(text.lower(), option.choices) if text else []
        all_of_them = (
            "`--help` lists them" if option.field == "model_name" else f"one of {', '.join(option.choices)}"
        )
        remedy = f"did you mean {', '.join(near)}?" if near else all_of_them
        problems.append(Problem(where, f"{text!r} is none of its values", remedy))
    elif option.low is not None:
        return _whole(option, text, where, problems)
    elif option.field in ("lut", "sdk"):
        if not text:
            problems.append(Problem(where, "is empty", "name a path, or leave it out"))
        return Path(text)
    elif option.field == "mos":
        text = "".join(text.split())
        if text and not lut.MOS.fullmatch(text):
            problems.append(Problem(where, f"{text!r} is none of its values", lut.MOS_REMEDY))
    elif option.field == "extra":
        try:
            shlex.split(text)
        except ValueError as error:
            problems.append(Problem(where, f"{text!r} can't be split into flags: {error}", "close the quote"))
    return text


def _whole(option: Option, text: str, where: str, problems: list[Problem]) -> int:
    assert option.low is not None
    try:
        number = int(text)
    except ValueError:
        problems.append(Problem(where, f"{text!r} is no whole number"))
        return option.low
    if number < option.low or (option.high is not None and number > option.high):
        span = f"{option.low}..{option.high}" if option.high is not None else f"{option.low} or more"
        problems.append(Problem(where, f"{number} is out of range", span))
    return number
