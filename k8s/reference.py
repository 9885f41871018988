"""Every field of a Sweep as a page for people, and its JSON schema for editors. Pure, from the same model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from k8s.crd import Schema, sweep_schema
from runner.spec import API_VERSION, KIND, Sweep

_HEAD = f"""# The Sweep

Every field of `{API_VERSION}`, kind `{KIND}`. `[]` stands for each item of a list.
In a cluster `kubectl explain sweep.spec.grid` says the same.

Editors with a YAML language server complete and check a sweep whose first line is
`# yaml-language-server: $schema=sweep.schema.json`, with the path of the file beside this page.

"""
_SAME_AS_GRID = ("spec.include[]", "spec.exclude[]")


def page() -> str:
    """Markdown: a table of the spec, the rules beyond it, a table of the status."""
    schema = sweep_schema()
    fields = schema["properties"]
    axes = fields["spec"]["properties"]["grid"]["properties"]
    spec = [*_rows(fields["spec"], "spec", set(axes))]
    status = [*_rows(fields["status"], "status", set())]
    return (
        _HEAD
        + "## spec\n"
        + table(("path", "type", "default", "meaning"), spec)
        + "\n## Rules\n"
        + "".join(f"* {rule}\n" for rule in _rules(schema, ""))
        + "\n## status\nWritten by the controller alone.\n\n"
        + table(("path", "type", "meaning"), [(path, kind, text) for path, kind, _, text in status])
    )


def editor_schema() -> Schema:
    """JSON schema of a sweep file: as strict as reading it is, but for what needs the catalogue."""
    schema = Sweep.model_json_schema()
    del schema["properties"]["status"]  # nobody writes it by hand
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **plain(schema)}


def _rows(schema: Schema, path: str, axes: set[str]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in schema["properties"].items():
        at = f"{path}.{name}"
        if path in _SAME_AS_GRID and name in axes:
            continue
        default = f"`{json.dumps(field['default'])}`" if field.get("default", {}) != {} else ""
        required = " (required)" if name in schema.get("required", []) else ""
        yield at, _kind(field) + required, default, field.get("description", "")
        inner, suffix = (field["items"], "[]") if field.get("type") == "array" else (field, "")
        if "properties" in inner:
            yield from _rows(inner, at + suffix, axes)
        if at + suffix in _SAME_AS_GRID:
            yield f"{at}{suffix}.*", "", "", "The axes of `spec.grid`."


def _kind(field: Schema) -> str:
    """A type with its bounds, in words."""
    if field.get("type") == "array":
        items = field["items"]
        distinct = field.get("x-kubernetes-list-type") == "set"
        most = len(items["enum"]) if distinct and "enum" in items else field["maxItems"]
        count = f"{field['minItems']} to {most}" if field.get("minItems") else f"up to {most}"
        return f"list of {count}{' distinct' if distinct else ''}: {_kind(items)}"
    if "enum" in field:
        return ", ".join(f"`{value}`" if value else "empty" for value in field["enum"])
    if "x-kubernetes-int-or-string" in field:
        number = {key: value for key, value in field.items() if key != "pattern"}
        return f"integer{_bounds(number)} or string{_bounds({'pattern': field['pattern']})}"
    if "additionalProperties" in field:
        return f"map of up to {field['maxProperties']} strings"
    return str(field["type"]) + _bounds(field)


def _bounds(field: Schema) -> str:
    bounds = []
    if "minimum" in field:
        bounds.append(f"{'>' if field.get('exclusiveMinimum') else '>='} {field['minimum']:,}")
    if "maximum" in field:
        bounds.append(f"<= {field['maximum']:,}")
    if "pattern" in field:
        bounds.append(f"`{field['pattern']}`")
    return " ".join(["", *bounds])


def _rules(schema: Schema, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield f"`{path}{rule.get('fieldPath', '')}`: {rule['message']}".replace("`.", "`", 1)
    for name, field in schema.get("properties", {}).items():
        yield from _rules(field, f"{path}.{name}".removeprefix("."))
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")


def plain(schema: Any) -> Any:
    """Without titles, which only repeat names, without null, which YAML gives for a forgotten value, and without line
    breaks in descriptions."""
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: plain(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and (key, value) != ("default", None)
    }
    if isinstance(said := result.get("description"), str):
        result["description"] = " ".join(said.split())
    options = [option for option in result.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        del result["anyOf"]
        return {**options[0], **result}
    return result


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    lines += [
        (f"`{path}`", *(" ".join(cell.split()).replace("|", "\\|") for cell in cells))
        for path, *cells in rows
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
