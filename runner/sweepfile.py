"""A YAML file becomes a Sweep, or a list of everything that is wrong with it.

Bounded before anything is expanded: a sweep file is read up to 64 KiB, parsed as events
(depth, aliases, documents), then composed once more for its line numbers and duplicate keys.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import BaseModel, ValidationError

from runner.axes import Axes, Points
from runner.errors import BadInput, Problem
from runner.pod_settings import Pods
from runner.spec import API_VERSION, KIND, Again, Limits, Measure, Results, Sweep, SweepSpec

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
# Nodes after aliases are followed. Ten levels of ten aliases each are 400 bytes and 10^10 nodes.
MAX_NODES = 20_000

_TOO_DEEP = Problem("", f"nested deeper than {MAX_DEPTH} levels")
_TOO_LARGE = f"larger than {MAX_BYTES // 1024} KiB"
_SPLIT = "split the sweep, or name groups of models and grids instead of single points"

Path_ = tuple[str | int, ...]


def load_sweep(path: Path) -> Sweep:
    """The Sweep in `path`. Raises BadInput with every problem, each with its path and line."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput([Problem("", f"can't be read: {error.strerror}")], source=str(path)) from error
    return parse_sweep(data, source=str(path))


def parse_sweep(data: bytes, *, source: str = "") -> Sweep:
    """The Sweep that YAML (or JSON) `data` holds. Raises BadInput with every problem."""
    if len(data) > MAX_BYTES:
        raise BadInput([Problem("", _TOO_LARGE, _SPLIT)], source=source)
    document = _Document(data, source)
    return _validated(document.value, document.lines, source)


def sweep_from_object(value: Mapping[str, Any], *, source: str = "") -> Sweep:
    """The Sweep that an already parsed object (the API server's) holds. Raises BadInput."""
    # Of the object itself the API server writes more than the author did.
    size = len(orjson.dumps(value.get("spec")))
    if size > MAX_BYTES:
        raise BadInput([Problem("spec", _TOO_LARGE, _SPLIT)], source=source)
    return _validated(value, {}, source)


def _validated(value: Any, lines: Mapping[Path_, int], source: str) -> Sweep:
    try:
        # By way of JSON: strict there means JSON's types, lists for tuples included.
        return Sweep.model_validate_json(orjson.dumps(value), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A list whose only entry is wrong is reported as too short besides: one mistake, said once.
        inner = {detail["loc"][:-1] for detail in details}
        problems = [
            _problem(dict(detail), lines)
            for detail in details
            if detail["type"] != "too_short" or detail["loc"] not in inner
        ]
        raise BadInput(problems, source=source) from None
    except orjson.JSONEncodeError as error:
        raise BadInput(
            [Problem("", f"holds a value YAML allows and JSON does not: {error}")], source=source
        ) from None


class _Document:
    """One bounded YAML document: its plain value, and the line of every path in it."""

    def __init__(self, data: bytes, source: str) -> None:
        self.lines: dict[Path_, int] = {}
        self._problems: list[Problem] = []
        try:
            _check_events(yaml.parse(data, Loader=yaml.CSafeLoader), source)
            node = yaml.compose(data, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"line {mark.line + 1}" if mark else ""
            reason = getattr(error, "problem", None) or "not valid UTF-8 text"
            if "nesting depth" in reason:
                # libyaml has a limit of its own, and looks ahead of the events we count.
                raise BadInput([_TOO_DEEP], source=source) from error
            raise BadInput([Problem(where, f"not YAML: {reason}")], source=source) from error
        except UnicodeDecodeError as error:
            raise BadInput([Problem("", f"not UTF-8 text: {error.reason}")], source=source) from error
        if not isinstance(node, yaml.MappingNode):
            raise BadInput([Problem("", f"not a {KIND}: the document is no mapping")], source=source)
        self.value = self._plain(node, ())
        if self._problems:
            raise BadInput(self._problems, source=source)

    def _plain(self, node: yaml.Node, path: Path_) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
                line = key_node.start_mark.line + 1
                if key in result:
                    # PyYAML keeps the last one silently.
                    self._problems.append(
                        Problem(_show((*path, key), line), "stands twice in this mapping", "keep one")
                    )
                self.lines[(*path, key)] = line
                result[key] = self._plain(value_node, (*path, key))
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node)


def _check_events(events: Iterator[yaml.Event], source: str) -> None:
    """Refuse several documents, deep nesting and alias bombs, without building anything."""
    documents = total = 0
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                remedy = "one file per sweep; `kubectl apply -f FOLDER` takes many files"
                raise BadInput([Problem("", "holds several documents", remedy)], source=source)
        elif isinstance(event, yaml.AliasEvent):
            total += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            total += 1
            open_nodes.append((event.anchor, total))
            if len(open_nodes) > MAX_DEPTH:
                raise BadInput([_TOO_DEEP], source=source)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - start + 1
        if total > MAX_NODES:
            raise BadInput(
                [Problem("", f"holds more than {MAX_NODES:,} values once aliases are followed")],
                source=source,
            )
    if documents == 0:
        raise BadInput([Problem("", "is empty")], source=source)


_CONSTRUCTOR = yaml.constructor.SafeConstructor()


def _scalar(node: yaml.Node) -> Any:
    # A date is a label here (`run: 2026-11-24`); JSON has none.
    if node.tag == "tag:yaml.org,2002:timestamp":
        return node.value
    try:
        return _CONSTRUCTOR.construct_object(node)
    except (yaml.YAMLError, ValueError):
        return str(node.value)


def _problem(detail: dict[str, Any], lines: Mapping[Path_, int]) -> Problem:
    """One of pydantic's findings in words: where, what is there, what would be right."""
    # Drop pydantic's own steps (a union's branch, a function's name): they are no keys of the file.
    path = tuple(
        part for part in detail["loc"] if isinstance(part, int) or part.isidentifier() or part in lines
    )
    path = tuple(part for part in path if part not in ("function-after", "int", "str"))
    where = _show(path, lines.get(path) or lines.get(path[:-1]))
    kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
    if kind == "extra_forbidden":
        return Problem(where, "unknown key", _nearest_key(str(path[-1]), path[:-1]))
    if kind == "missing":
        return Problem(where, "is missing", _MISSING.get(path, ""))
    if kind == "literal_error":
        return Problem(where, f"is {value!r}", f"one of {context['expected']}")
    if path == ("apiVersion",) or path == ("kind",):
        return Problem(where, f"is {value!r}", f"{API_VERSION}, kind {KIND}")
    if kind == "too_short":
        return Problem(where, "is empty", "at least one value, or leave it out")
    if kind == "too_long":
        return Problem(where, f"has {context['actual_length']} entries", f"at most {context['max_length']}")
    message = str(detail["msg"])
    if kind.endswith("_type") or kind.endswith("_parsing"):
        wanted = message.removeprefix("Input should be ").removeprefix("a valid ")
        remedy = "put it in quotes" if kind == "string_type" and isinstance(value, int | float) else ""
        return Problem(where, f"is {_brief(value)}, not {_article(wanted)}", remedy)
    if message.startswith("Input should be"):
        return Problem(where, f"is {_brief(value)}", message.removeprefix("Input ").replace("should", "must"))
    return Problem(where, message)


_MISSING: Mapping[Path_, str] = {
    ("apiVersion",): f"apiVersion: {API_VERSION}",
    ("kind",): f"kind: {KIND}",
    ("metadata",): "metadata: {name: my-sweep}",
    ("spec", "models"): "models: [resnet50]; `aicsweep models` lists the names",
}


def _show(path: Path_, line: int | None) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return f"{text} (line {line})" if line else text


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _article(noun: str) -> str:
    return noun if noun.startswith(("a ", "an ")) else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


_MODELS_AT: Mapping[str, type[BaseModel]] = {
    "": Sweep,
    "spec": SweepSpec,
    "grid": Axes,
    "include": Points,
    "exclude": Points,
    "measure": Measure,
    "limits": Limits,
    "again": Again,
    "results": Results,
    "pods": Pods,
}


def _nearest_key(key: str, parent: Path_) -> str:
    names = [part for part in parent if isinstance(part, str)]
    model = _MODELS_AT.get(names[-1] if names else "")
    if model is None:
        return "remove it"
    known = [field.alias or name for name, field in model.model_fields.items()]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
