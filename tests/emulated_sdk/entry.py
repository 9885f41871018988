"""Where a launcher script lands: writes the journal, calls the tool, turns a refusal into an exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .journal import Entry
from .options import NOT_EMULATED, Refused
from .state import State
from .styles import NOTICE


@dataclass(frozen=True)
class Invocation:
    """One run of a tool: its arguments, the shared state, its own entry in the journal."""

    tool: str
    argv: list[str]
    state: State
    entry: Entry

    def tell_child(self, pid: int) -> None:
        self.entry.write(child=pid)


def main(tool: str, root: str) -> None:
    """Run `tool` of the tree at `root` with this process's arguments, and exit."""
    # ONNX Runtime would send telemetry and write below the home folder.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    state = State(Path(root))
    call = Invocation(tool, sys.argv[1:], state, Entry(state.journal, tool, sys.argv[1:]))
    print(f"{tool}: {NOTICE}", file=sys.stderr)
    try:
        code = _program(tool)(call)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        call.entry.write(note=str(refusal))
        code = refusal.exit_code
    except Exception:
        # A fault of the emulator must not pass for one of the tool.
        traceback.print_exc()
        call.entry.write(note=traceback.format_exc())
        code = NOT_EMULATED
    sys.stdout.flush()
    call.entry.write(ended=time.time(), exit_code=code)
    sys.exit(code)


def _program(tool: str) -> Callable[[Invocation], int]:
    # Imported only when called: the query needs none of what the others load.
    if tool == "qaic-runner":
        from . import qaic_runner

        return qaic_runner.run
    if tool == "qaic-util":
        from . import qaic_util

        return qaic_util.run
    from . import qaic_compile

    return qaic_compile.run
