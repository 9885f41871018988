"""A condition on rows of the table: what may be said in `--where` and `spec.again[].where`. Pure.

    status == 'failed'        warnings or ci > 2%        cores in [7, 14] and not 'slow-device' in warnings

It is read as a Python expression of few kinds, and evaluated by column (`where`), never by Python.
"""

from __future__ import annotations

import ast
import re

MAX_CHARACTERS = 1024
# Each level is several calls deep when it is evaluated.
MAX_DEPTH = 32
# Of the columns that it is compared with.
_INTEGERS = range(-(2**63), 2**63)

# A number with a percent sign, where it is not within quotes.
_PERCENT = re.compile(r"""('[^']*'|"[^"]*")|(\d+(?:\.\d+)?)\s*%""")
_ALLOWED = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub,
    ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div,
    ast.Name, ast.Constant, ast.List, ast.Tuple, ast.Load,
)  # fmt: skip
_WORDS = "and, or, not, in, comparisons, + - * /, names of columns, numbers, `2%`, texts in quotes, lists"


def parse(text: str) -> ast.expr:
    """The condition as a tree. Raises ValueError saying what is no part of one."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"has more than {MAX_CHARACTERS} characters")
    plain = _PERCENT.sub(lambda found: found[1] or f"({found[2]}/100)", text.strip())
    try:
        tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = getattr(error, "msg", "") or str(error) or "too deep"
        raise ValueError(f"{text!r} is no condition: {why}") from error
    if _depth(tree) > MAX_DEPTH:
        raise ValueError(f"{text!r} is no condition: it is nested more than {MAX_DEPTH} deep")
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED) or (isinstance(node, ast.Constant) and not _is_value(node.value)):
            raise ValueError(
                f"{text!r} is no condition: `{_shown(node)}` can't be part of one, only {_WORDS}"
            )
    return tree


def names(condition: ast.expr) -> list[str]:
    """The columns that a condition speaks of, sorted."""
    return sorted({node.id for node in ast.walk(condition) if isinstance(node, ast.Name)})


def of_status(*statuses: str) -> str:
    """The condition that a row has one of these statuses."""
    return f"status == {statuses[0]!r}" if len(statuses) == 1 else f"status in {list(statuses)!r}"


def _depth(tree: ast.AST) -> int:
    """Nested levels, not counted by recursion: 1024 minus signs are as deep as that."""
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    return depth


def _is_value(value: object) -> bool:
    """Whether a column can hold it."""
    if isinstance(value, str):
        # Half of a pair of UTF-16 is no text.
        return not any("\ud800" <= character <= "\udfff" for character in value)
    return value in _INTEGERS if isinstance(value, int) else isinstance(value, float)


def _shown(node: ast.AST) -> str:
    # Operators are nodes too, and can't be written by themselves.
    return ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
