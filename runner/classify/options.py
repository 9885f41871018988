"""The command line of `run_cv_classifier`: names, ranges and defaults as the vendor's users know them, and ours."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from runner import catalogue, cells
from runner.axes import BEST_THROUGHPUT, OBJECTIVES

PROGRAM = "run_cv_classifier"
PRETRAINED, RANDOM = "pretrained", "random"
QAIC, ONNXRUNTIME = "qaic", "onnxruntime"
DEFAULT_TIME_S, DEFAULT_DEVICE = 20, 0
MOST_CORES, MOST_SET_SIZE, LAST_DEVICE = 14, 10, 7
WIDTH = 100


@dataclass(frozen=True)
class Option:
    """One option that takes a value: a whole number of `low` to `high` (no end if None), one of `choices`, or
    a text. `own`: not one of the vendor's."""

    name: str
    short: str
    metavar: str
    help: str
    low: int | None = None
    high: int | None = None
    choices: Sequence[str] = ()
    own: bool = False

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")


def _number(name: str, short: str, help: str, high: int | None = None, low: int = 1) -> Option:
    metavar = "N" if high is None else f"{low}..{high}"
    return Option(name, short, metavar, help, low=low, high=high)


OPTIONS: Sequence[Option] = (
    Option("model-name", "m", "MODEL", "the model, one of those below", choices=tuple(catalogue.MODELS)),
    Option("objective", "o", "OBJECTIVE", f"{', '.join(OBJECTIVES)} (default {BEST_THROUGHPUT})", choices=OBJECTIVES),
    _number("opset", "", f"ONNX opset of the export (default {cells.DEFAULT_OPSET})"),
    _number("batch-size", "b", "images in one inference (default 14 for best-throughput, else 1)"),
    _number("image-size", "s", f"edge of the images (default {catalogue.DEFAULT_IMAGE_SIZE}, or the model's own)"),
    _number("cores", "c", f"cores of one instance (default {cells.DEFAULT_CORES})", MOST_CORES),
    _number("instances", "i", f"copies side by side (default {cells.DEFAULT_INSTANCES})", MOST_CORES),
    _number("ols", "", f"factor that operations are split by (default {cells.DEFAULT_OLS})", MOST_CORES),
    Option("mos", "", "N[,N...]", "cores that an output channel is split over, a list for several clusters;"
           " empty switches the table's off (default none)"),
    _number("set-size", "", f"inferences in flight per instance (default {cells.DEFAULT_SET_SIZE})", MOST_SET_SIZE),
    Option("extra", "", "FLAGS", "compiler flags in one text, as --extra=-multicast-weights; empty switches the"
           " table's off (default none)"),
    _number("time", "", f"seconds to run (default {DEFAULT_TIME_S})"),
    _number("device", "d", f"the card's QID (default {DEFAULT_DEVICE})", LAST_DEVICE, low=0),
    Option("backend", "", "NAME", f"{QAIC} or {ONNXRUNTIME} (this machine's CPU); default {QAIC} where an SDK is"
           " found", choices=(QAIC, ONNXRUNTIME), own=True),
    Option("weights", "", "KIND", f"{PRETRAINED} (default) or {RANDOM}, which needs no download",
           choices=(PRETRAINED, RANDOM), own=True),
    Option("lut", "", "FILE", "look-up table in place of ./lut_cv_classifiers.csv and of the one shipped", own=True),
    Option("sdk", "", "DIR", "the vendor's SDK (default AICSWEEP_SDK, /opt/qti-aic, or around a tool on PATH)",
           own=True),
    Option("timeout", "", "S", "seconds that export, compile, and the run beyond its --time may take each"
           " (default 900, 3600, 120)", low=1, own=True),
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    names = textwrap.fill(
        "  ".join(sorted(catalogue.MODELS)), WIDTH - 4, break_on_hyphens=False,
        initial_indent="  ", subsequent_indent="  ",
    )  # fmt: skip
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} -m MODEL [options]",
        description="Export a vision model to ONNX, compile it for an AIC100 card, run it there, and compare its"
        " output with ONNX Runtime.\nEach parameter: the option, else the look-up table's row of model and"
        " objective, else the default.",
        epilog=f"models:\n{names}\n\n"
        "exit codes: 0 a result, 1 export, compile or run failed, 2 bad input, 3 host, SDK or card, 130 interrupted",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28, width=WIDTH
        ),
    )
    added = made.add_argument_group("additional options")
    for option in OPTIONS:
        (added if option.own else made).add_argument(
            *([f"-{option.short}"] if option.short else []),
            f"--{option.name}",
            metavar=option.metavar,
            help=option.help,
            required=option.field == "model_name",
        )
    made.add_argument(
        "-r", "--run-only", action="store_true", help="run what an earlier call exported and compiled"
    )
    return made


VENDORS = (*(f"--{option.name}" for option in OPTIONS if not option.own), "--run-only", "--help")


def spelled_out(argv: Sequence[str]) -> list[str]:
    """Abbreviations written in full: a prefix that is unique among the vendor's options stays so, whatever
    options we add. (argparse takes no word that begins with two dashes for a value.)"""
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        found = [full for full in VENDORS if full.startswith(name)]
        if len(found) == 1 and len(name) > len("--") and name.startswith("--"):
            word = found[0] + equals + value
        words.append(word)
    return words
