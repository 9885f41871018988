"""The compile stage: one call of the vendor's compiler, and whether it really made a binary.

Used by sweeps (a folder of the store's cache) and by the vendor-compatible command (a folder below
the model's), which differ only in the paths they give.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner import process, scratch
from runner.backends.qaic import flags, verdicts
from runner.backends.qaic.sdk import Compiler
from runner.cells import Cell

PROGRAM = "programqpc.bin"
LOG, CALL = "compile.log", "compile.json"
# The vendor's logs have compiles of two minutes; the largest networks on a busy host take longer.
LIMIT_S = 3600.0


@dataclass(frozen=True)
class Compiled:
    """A successful call: its command line as it was, and how long it took."""

    argv: tuple[str, ...]
    seconds: float


def compile_binary(
    compiler: Compiler,
    cell: Cell,
    *,
    graph: str,
    binary_dir: str,
    cwd: Path,
    log: Path,
    limit_s: float = LIMIT_S,
    echo: process.Echo | None = None,
) -> Compiled:
    """Compile `graph` into `binary_dir`, both absolute or relative to `cwd`, and keep what it said in `log`.

    What was in `binary_dir` is removed first (the compiler refuses to overwrite), and what a failed call
    left there afterwards. Raises PointFailed, Infeasible, BadInput or Infrastructure.
    """
    target = cwd / binary_dir
    scratch.remove(target)
    done = False
    try:
        argv = flags.compile_argv(compiler, cell, graph=graph, binary_dir=binary_dir)
        ended = process.run(argv, limit_s=limit_s, cwd=cwd, log=log, echo=echo)
        error = verdicts.judge("compile", cell, ended, limit_s=limit_s, missing=_missing(target))
        if error is not None:
            raise error
        done = True
    finally:
        if not done:
            # Half a binary must not be taken for one later.
            scratch.remove(target)
    return Compiled(ended.argv, ended.seconds)


def _missing(folder: Path) -> verdicts.Missing | None:
    program = folder / PROGRAM
    if program.is_file() and program.stat().st_size > 0:
        return None
    state = "empty" if program.is_file() else "missing"
    return verdicts.Missing("no-binary", f"the compiler ended well but {PROGRAM} is {state}")
