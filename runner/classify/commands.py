"""`commands-MOTIF.txt`: shell commands that reproduce a result when pasted in the model's directory. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

REMOVE = ("/bin/rm", "-rf")


def removal(binary_dir: str) -> str:
    """Compilers refuse to overwrite a binary."""
    return text([*REMOVE, binary_dir])


def text(argv: Sequence[str]) -> str:
    """One command: a line, followed by an empty one."""
    return f"{shlex.join(argv)}\n\n"
