"""Guards, each a line of code that keeps something from being lost or done twice, and the tests that miss it.

tests/guards/*.toml --> Guard --> (copy of the tree with the guard taken out) --pytest--> the test that fails
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent
# What pytest's exit code says.
_PASSED, _FAILED = 0, 1


@dataclass(frozen=True)
class Guard:
    """In `file` the text `old`, which is there exactly once, becomes `new`: then one of `tests` fails. `why`:
    what would happen to a user without it. `list` is the file it stands in."""

    list: str
    name: str
    file: str
    old: str
    new: str
    tests: Sequence[str]
    why: str

    def places(self, root: Path = ROOT) -> int:
        """How often `old` stands in the file: 1, if the list is right."""
        return (root / self.file).read_text().count(self.old)

    def take_out(self, root: Path) -> None:
        file = root / self.file
        file.write_text(file.read_text().replace(self.old, self.new))


@dataclass(frozen=True)
class Verdict:
    """`killed_by`: the first test that failed; empty if none did, then `said` is the end of what pytest said."""

    guard: Guard
    killed_by: str
    seconds: float
    said: str = ""


def guards() -> list[Guard]:
    """Of all lists, in their order. Raises TypeError for a field that is missing or unknown."""
    return [
        Guard(list=path.stem, **entry)
        for path in sorted(LISTS.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())["guard"]
    ]


def named(known: Sequence[Guard], names: Sequence[str]) -> list[Guard]:
    """Those of these names, a list's name standing for all in it; all, if no name is given. Raises LookupError."""
    unknown = set(names) - {guard.name for guard in known} - {guard.list for guard in known}
    if unknown:
        raise LookupError(f"no guard and no list of guards is called {', '.join(sorted(unknown))}")
    return [guard for guard in known if not names or {guard.name, guard.list} & set(names)]


def copy_tree(folder: Path) -> None:
    """What git has or would take, as it is on the disk now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, copy = ROOT / name, folder / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


def pytest_in(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest on the tree at `root`; its modules come before those that are installed."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", *arguments],
        cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def without(guard: Guard, root: Path) -> Verdict:
    """Its tests on the fresh copy at `root`, once the guard is out. Raises RuntimeError where they can't run."""
    guard.take_out(root)
    started = time.monotonic()
    # A mutant may wait for what never comes.
    done = pytest_in(root, "-x", "--timeout=100", *guard.tests)
    if done.returncode not in (_PASSED, _FAILED):
        raise RuntimeError(f"{guard.name}: the tests can't run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    killed_by = failed.group(1) if done.returncode == _FAILED and failed else ""
    return Verdict(guard, killed_by, time.monotonic() - started, done.stdout[-1000:])
