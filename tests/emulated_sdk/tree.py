"""Lays out the emulated tree, as /opt/qti-aic, and is the test's handle on it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import journal
from .cards import Card
from .faults import Fault
from .journal import Call
from .state import State
from .styles import NOTICE, STYLES

_TESTS = Path(__file__).resolve().parent.parent
# Creation times of processes are counted from a boot time known to the second.
_BOOT_CLOCK_S = 2.0
_LAUNCHER = """#!{python}
# {notice}.
import sys
sys.path.append({tests!r})
from emulated_sdk.entry import main
main({tool!r}, {root!r})
"""
_VERSIONS = """<?xml version="1.0"?>
<!-- {notice} -->
<versions>
    <ci_build>
        <base_version>{base}</base_version>
        <build_id>{build}</build_id>
    </ci_build>
</versions>
"""


class Sdk:
    """An emulated SDK that lies at `root`."""

    def __init__(self, root: Path, style: str) -> None:
        self.root = root
        self.compiler = root / "exec" / STYLES[style].compiler
        self.runner = root / "exec" / "qaic-runner"
        self.util = root / "tools" / "qaic-util"
        self._state = State(root)

    def calls(self, tool: str = "") -> list[Call]:
        """Invocations so far, in order of their start; of one tool if given."""
        return [call for call in journal.read(self._state.journal) if tool in ("", call.tool)]

    def alive(self) -> list[int]:
        """Pids of tools, and children they left, that still live (zombies do not)."""
        return [pid for call in self.calls() for pid in (call.pid, *call.children) if _lives(pid, call)]

    def end_all(self) -> None:
        """Kill what is alive: for the end of a test that let tools hang."""
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)

    def set_cards(self, cards: Sequence[Card]) -> None:
        """Other cards from now on; their counts of queries begin anew and a lost card is back."""
        self._state.set_cards(cards)

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """Other faults from now on; their counts begin anew."""
        self._state.set_faults(faults)


def _lives(pid: int, call: Call) -> bool:
    """A pid is taken again some day: this one is the tool's (older than its entry) or its child's (`sleep`)."""
    import psutil  # the tools import this package too, and have no use for it

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return (
            process.create_time() < call.started + _BOOT_CLOCK_S
            if pid == call.pid
            else process.name() == "sleep"
        )
    except psutil.NoSuchProcess:
        return False


def install(
    root: Path,
    *,
    style: str = "1.21",
    cards: Sequence[Card] = (Card(),),
    faults: Sequence[Fault] = (),
    speed: float = 1000.0,
) -> Sdk:
    """Lay out an emulated SDK of one of `STYLES` below `root`, which must not hold one yet.

    `speed`: simulated over real seconds where the tools' environment does not say (`state.SPEED`).
    """
    root = root.resolve()
    line = STYLES[style]
    (root / "EMULATED" / "running").mkdir(parents=True)
    sdk = Sdk(root, style)
    for executable in (sdk.compiler, sdk.runner, sdk.util):
        executable.parent.mkdir(exist_ok=True)
        executable.write_text(
            _LAUNCHER.format(
                python=sys.executable, notice=NOTICE, tests=str(_TESTS), tool=executable.name, root=str(root)
            )
        )
        executable.chmod(0o755)
    (root / "versions").mkdir()
    for kit in ("apps", "platform"):
        text = _VERSIONS.format(notice=NOTICE, base=line.version, build=line.build)
        (root / "versions" / f"{kit}.xml").write_text(text)
    State(root).write(style=style, speed=speed)
    sdk.set_cards(cards)
    sdk.set_faults(faults)
    return sdk
