"""The schema and the table of the chart's values, from its values.yaml and the models behind some of them. Pure.

# What it means, for people.
# @schema {minimum: 1}
key: 3
# `setting`: bounded as that setting of the controller is.
# @schema {setting: cluster}
name: default
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from k8s.crd import Schema
from k8s.reference import plain, table
from k8s.settings import Settings
from runner.pod_settings import Pods

_MARK = "<!-- Made by `make generate` from values.yaml; do not edit below. -->\n"
_DIRECTIVE = "@schema "
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
# The others have a place of their own in the values, or are for running it by hand.
SETTINGS = ("workers", "resync_s", "request_s", "silence_s", "stop_s", "lease_s", "log_level")
# Of `images`.
_NOT_INHERITED = ("buildImage", "measureImage")


def schema(values: str) -> Schema:
    """JSON schema of `values`, the text of a values.yaml. Raises ValueError for a key without a comment."""
    definitions: dict[str, Schema] = {}
    models = _models(definitions)
    (root,) = yaml.compose_all(values)
    # helm lets a chart that has this one as a part give it `global`.
    properties = {**_properties(root, values.splitlines(), "", models), "global": {"type": "object"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "Made by `make generate` from values.yaml; do not edit.",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }


def with_table(readme: str, values: str) -> str:
    """The text by hand of `readme`, up to the mark, and a table of all values."""
    by_hand, mark, _ = readme.partition(_MARK)
    if not mark:
        raise ValueError(f"the chart's README has no line {_MARK!r}")
    found = schema(values)
    return by_hand + mark + table(("value", "default", "meaning"), [*_rows(found, found["$defs"], "")])


def _models(definitions: dict[str, Schema]) -> dict[str, Schema]:
    """The schemas of values that a model reads, by their path; what they refer to goes into `definitions`."""
    pods, settings = _of_model(Pods, definitions), _of_model(Settings, {})
    for name in _NOT_INHERITED:
        del pods["properties"][name]
    # Those that are required, and what only they refer to, are not among these.
    settings["properties"] = {name: settings["properties"][name] for name in SETTINGS}
    del settings["required"]
    return {"pods": pods, "controller.settings": settings}


def _of_model(model: type[BaseModel], definitions: dict[str, Schema]) -> Schema:
    made: Schema = plain(model.model_json_schema())
    definitions |= made.pop("$defs", {})
    return made


def _properties(node: Any, lines: list[str], path: str, models: dict[str, Schema]) -> Schema:
    return {
        key.value: _field(key, value, lines, f"{path}.{key.value}".removeprefix("."), models)
        for key, value in node.value
    }


def _field(key: Any, value: Any, lines: list[str], path: str, models: dict[str, Schema]) -> Schema:
    text, more = _comment(lines, key.start_mark.line, key.start_mark.column, path)
    if path in models:
        return {**models[path], "description": text}
    if isinstance(value, yaml.MappingNode) and value.value:
        properties = _properties(value, lines, path, models)
        return {
            "type": "object",
            "description": text,
            "additionalProperties": False,
            "properties": properties,
            **more,
        }
    default = yaml.safe_load(yaml.serialize(value))
    kind = _TYPES[type(default)]
    if (kind == "object" and "additionalProperties" not in more) or (kind == "array" and "items" not in more):
        raise ValueError(f"{path}: its default is empty, so `# @schema` must say what it may hold")
    return {"type": kind, "description": text, **more, "default": default}


def _comment(lines: list[str], line: int, column: int, path: str) -> tuple[str, Schema]:
    """Description and directives of the comment that ends above `line`, at the same column."""
    mark, first = " " * column + "# ", line
    text: list[str] = []
    more: Schema = {}
    while first and lines[first - 1].startswith(mark):
        first -= 1
    for comment in (each.removeprefix(mark) for each in lines[first:line]):
        if comment.startswith(_DIRECTIVE):
            said = yaml.safe_load(comment.removeprefix(_DIRECTIVE))
            more |= _bounds(said.pop("setting")) if "setting" in said else {}
            more |= said
        else:
            text.append(comment)
    if not text:
        raise ValueError(f"{path}: has no comment above it that says what it means")
    return " ".join(text), more


def _bounds(setting: str) -> Schema:
    """What the setting may be. Raises KeyError for one that there is not."""
    found = _of_model(Settings, {})["properties"][setting]
    return {name: value for name, value in found.items() if name not in ("type", "default", "description")}


def _rows(node: Schema, definitions: dict[str, Schema], path: str) -> Iterator[tuple[str, str, str]]:
    for name, field in node["properties"].items():
        field = {**definitions.get(field.get("$ref", "").removeprefix("#/$defs/"), {}), **field}
        at = f"{path}.{name}".removeprefix(".")
        if "description" not in field and "default" not in field:
            continue
        leaf = "properties" not in field
        default = f"`{json.dumps(field['default'])}`" if leaf and "default" in field else ""
        yield at, default, field.get("description", "")
        if not leaf:
            yield from _rows(field, definitions, at)
