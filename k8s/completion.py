"""Shell completion of `kubectl aicsweep`: the command `kubectl_complete-aicsweep`, which kubectl itself runs.

kubectl 1.26 and newer, once its own completion is set up, calls it with what was typed, the unfinished word
last, and reads one candidate a line and then `:` with a number (cobra's ShellCompDirective).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from click.shell_completion import CompletionItem, ShellComplete

from k8s.plugin import cli

_NO_FILES, _FILES = 4, 0


def main() -> None:
    """Entry point. Never an error: a shell would write it into the line."""
    for line in answer(sys.argv[1:]):
        print(line)


def answer(words: Sequence[str]) -> list[str]:
    """The lines for kubectl."""
    *before, unfinished = words or [""]
    found = ShellComplete(cli, {}, "kubectl-aicsweep", "").get_completions(list(before), unfinished)
    files = any(item.type in ("file", "dir") for item in found)
    return [*(_line(item) for item in found if item.type == "plain"), f":{_FILES if files else _NO_FILES}"]


def _line(item: CompletionItem) -> str:
    return f"{item.value}\t{item.help}" if item.help else str(item.value)


if __name__ == "__main__":
    main()
