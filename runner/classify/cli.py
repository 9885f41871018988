"""The command `run_cv_classifier`: what goes wrong becomes a last line that says what failed, and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from runner.classify.given import Given, parse
from runner.classify.options import PROGRAM
from runner.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    AicsweepError,
    BadInput,
    Infrastructure,
    PointFailed,
)

Work = Callable[[Given, Path], None]
# Remedies of the stages name what a Sweep has; here it is an option.
WORDS = {
    "spec.weights: random": "--weights random",
    "spec.weights": "--weights",
    "spec.models": "--model-name",
    "measure.seconds": "--time",
    "--devices": "--device",
    "`extra`": "--extra",
}


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str], work: Work | None = None) -> int:
    """Work in the current directory; returns the exit code. Raises SystemExit for help and for words that are
    no command line. `work` stands in for the flow."""
    try:
        given = parse(argv)
        # Imported late: help and mistakes are answered at once.
        from runner.classify import flow

        (work or flow.classify)(given, Path.cwd())
    except AicsweepError as error:
        sys.stdout.flush()
        print(explained(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        sys.stdout.flush()
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `run_cv_classifier ... | head`: there is nobody to give the rest to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    return EXIT_OK


def explained(error: AicsweepError) -> str:
    """Everything about an error; the last line alone says what failed."""
    above: list[str] = []
    if isinstance(error, BadInput):
        what = "bad input"
        if len(error.problems) == 1:
            (only,) = error.problems
            said = " ".join(filter(None, [f"{only.path}:" if only.path else "", only.message]))
            above, message = [only.remedy], said
        else:
            above, message = str(error).splitlines()[1:], f"{len(error.problems)} problems, named above"
    else:
        what, message = _failed(error), error.message
        above = [
            getattr(error, "log_tail", "") if _silent(error) else "",
            *message.splitlines()[1:],
            error.remedy,
        ]
    lines = [line for line in above if line] + [
        f"{PROGRAM}: {what}: {message.splitlines()[0] if message else ''}"
    ]
    text = "\n".join(lines)
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    return text


def _failed(error: AicsweepError) -> str:
    if isinstance(error, PointFailed):
        return f"{error.stage} {error.verdict}, {error.reason}"
    return error.reason if isinstance(error, Infrastructure) else "failed"


def _silent(error: AicsweepError) -> bool:
    """Whether the failed step's own output has not passed through yet."""
    return isinstance(error, PointFailed) and error.stage == "export"


if __name__ == "__main__":
    main()
