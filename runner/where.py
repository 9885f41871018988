"""Rows of the table that fit a condition, by column. Pure.

    condition (text) --`condition.parse`--> tree --`rows_where`--> the table's rows

What is not known fits no comparison; an empty text, a zero and what is not known are false by themselves.
"""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner import condition
from runner.errors import BadInput, Problem

# Shares that people ask for, made of two columns: the half width of a 95 % interval as a part of its centre.
RATIOS: Mapping[str, tuple[str, str]] = {
    "ci": ("throughput_ci95_images_s", "throughput_images_s"),
    "p95_ci": ("latency_p95_ci95_s", "latency_p95_s"),
}

_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_RECKONED: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: pc.add,
    ast.Sub: pc.subtract,
    ast.Mult: pc.multiply,
    ast.Div: pc.divide,
}


def rows_where(table: pa.Table, text: str, at: str = "--where") -> pa.Table:
    """The rows of which the condition is true. Raises BadInput, which names the place `at` that it stands at."""
    tree = checked(text, table.column_names, at)
    try:
        fits = _truth(_value(table, tree))
    except (pa.ArrowException, TypeError) as error:
        # A text compared with a number, a product of texts.
        why = str(error).partition("\n")[0]
        raise BadInput([Problem(at, f"{text!r} can't be worked out: {why}")]) from error
    return table.filter(pa.repeat(fits, table.num_rows) if isinstance(fits, pa.Scalar) else fits)


def checked(text: str, columns: Collection[str], at: str = "--where") -> ast.expr:
    """The condition as a tree, of these columns. Raises BadInput."""
    try:
        tree = condition.parse(text)
    except ValueError as error:
        raise BadInput([Problem(at, str(error))]) from error
    known = [*RATIOS, *columns]
    problems = [
        Problem(at, f"{name!r} is no column of the table", _nearest(name, known))
        for name in condition.names(tree)
        if name not in known
    ]
    if problems:
        raise BadInput(problems)
    return tree


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, 3)
    return f"did you mean {' or '.join(near)}?" if near else f"columns: {', '.join(known)}"


def _value(table: pa.Table, node: ast.expr) -> Any:
    """A column or a scalar."""
    match node:
        case ast.Constant():
            return pa.scalar(node.value)
        case ast.Name():
            return _column(table, node.id)
        case ast.UnaryOp(op=ast.Not()):
            return pc.invert(_truth(_value(table, node.operand)))
        case ast.UnaryOp():
            return pc.negate(_value(table, node.operand))
        case ast.BoolOp():
            both = pc.and_ if isinstance(node.op, ast.And) else pc.or_
            return functools.reduce(both, (_truth(_value(table, each)) for each in node.values))
        case ast.BinOp():
            left, right = (pc.cast(_value(table, side), pa.float64()) for side in (node.left, node.right))
            return _RECKONED[type(node.op)](left, right)
        case ast.Compare():
            sides = [node.left, *node.comparators]
            pairs = zip(sides, node.ops, sides[1:], strict=False)
            return functools.reduce(pc.and_, (_compared(table, *pair) for pair in pairs))
    raise TypeError(f"{ast.unparse(node)} is no value")


def _compared(table: pa.Table, left: ast.expr, how: ast.cmpop, right: ast.expr) -> Any:
    if not isinstance(how, ast.In | ast.NotIn):
        return _known(_COMPARED[type(how)](_value(table, left), _value(table, right)))
    if isinstance(right, ast.List | ast.Tuple):
        equal = (_compared(table, left, ast.Eq(), each) for each in right.elts)
        found = functools.reduce(pc.or_, equal, pa.scalar(False))
    elif isinstance(left, ast.Constant) and isinstance(left.value, str):
        found = _known(pc.match_substring(_value(table, right), left.value))
    else:
        raise TypeError(f"{ast.unparse(right)} is no list, and {ast.unparse(left)} no text in quotes")
    return pc.invert(found) if isinstance(how, ast.NotIn) else found


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in RATIOS and name not in table.column_names:
        part, whole = (table[column] for column in RATIOS[name])
        return pc.divide(part, whole)
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    return pc.fill_null(column, "") if pa.types.is_string(column.type) else column


def _truth(values: Any) -> Any:
    if pa.types.is_boolean(values.type):
        return _known(values)
    nothing = pa.scalar("" if pa.types.is_string(values.type) else 0, values.type)
    return _known(pc.not_equal(values, nothing))


def _known(values: Any) -> Any:
    return pc.fill_null(values, False)
