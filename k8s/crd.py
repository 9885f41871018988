"""The CustomResourceDefinition of Sweep: a pure function of `runner.spec` and `k8s.status`.

Pydantic's JSON schema is not what the API server takes: references are inlined, unions resolved, exclusive
bounds respelt (`structural`). By hand are only the columns of `kubectl get` and the rules in CEL, the API
server's expression language, for what a schema can't say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from k8s.names import GROUP, PLURAL, VERSION
from k8s.status import SweepStatus
from runner.axes import NOT_IN_EXCLUDE
from runner.spec import API_VERSION, KIND, Metadata, Sweep, SweepSpec

Schema = dict[str, Any]

NAME = f"{PLURAL}.{GROUP}"

_KEPT = {
    *("type", "format", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "maxProperties", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}
# Without a form in a structural schema, or for people who read JSON schemas. Unknown fields are pruned, or
# refused where the client asks for strict validation, as kubectl does.
_DROPPED = {"title", "propertyNames"}

# (name, type, path, wide): what `kubectl get sweeps` shows, and with `-o wide`.
COLUMNS = (
    ("Phase", "string", ".status.phase", False),
    ("Done", "integer", ".status.cells.done", False),
    ("Total", "integer", ".status.cells.total", False),
    ("Failed", "integer", ".status.cells.failed", False),
    ("ETA", "string", ".status.eta", False),
    ("Age", "date", ".metadata.creationTimestamp", False),
    ("Round", "integer", ".status.round", True),
    ("Device-hours", "number", ".status.deviceHours", True),
    ("Table", "string", ".status.tableUrl", True),
)


def custom_resource_definition() -> Schema:
    """The whole object, ready for `kubectl apply`."""
    columns = [
        {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if wide else {})}
        for name, kind, path, wide in COLUMNS
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": _left_open(sweep_schema())},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["sw"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def sweep_schema() -> Schema:
    """Of one Sweep: its kind, metadata, spec and status."""
    return {
        "type": "object",
        "description": Sweep.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{API_VERSION}."},
            "kind": {"type": "string", "description": f"{KIND}."},
            # Declared so that a rule may point to it.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": structural(SweepSpec, "spec"),
            "status": structural(SweepStatus, "status"),
        },
        "x-kubernetes-validations": _rules("metadata"),
    }


def _left_open(schema: Schema) -> Schema:
    """Without the defaults that an installation may have others for: the API server would write them into each
    Sweep, where they look as if its author had asked for them."""
    pods = schema["properties"]["spec"]["properties"]["pods"]
    pods.pop("default", None)
    for field in pods["properties"].values():
        field.pop("default", None)
        for inner in field.get("properties", {}).values():
            inner.pop("default", None)
    return schema


def structural(model: type[BaseModel], path: str) -> Schema:
    """The model as a structural schema. Raises ValueError for what has no form there."""
    schema = model.model_json_schema()
    return _convert(schema, schema.get("$defs", {}), path)


def _convert(schema: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    schema = _inlined(schema, definitions)
    result: Schema = {}
    for keyword, value in schema.items():
        if keyword == "description":
            # A docstring's line breaks would be blank lines in the YAML.
            result[keyword] = " ".join(value.split())
        elif keyword in _KEPT or keyword.startswith("x-kubernetes-"):
            result[keyword] = value
        elif keyword == "exclusiveMinimum":
            result |= {"minimum": value, "exclusiveMinimum": True}
        elif keyword == "exclusiveMaximum":
            result |= {"maximum": value, "exclusiveMaximum": True}
        elif keyword == "const":
            result["enum"] = [value]
        elif keyword == "uniqueItems":
            result["x-kubernetes-list-type"] = "set"
        elif keyword == "anyOf":
            result |= _int_or_string(value, path)
        elif keyword == "items":
            result["items"] = _convert(value, definitions, f"{path}[]")
        elif keyword == "properties":
            result["properties"] = {
                name: _convert(field, definitions, f"{path}.{name}") for name, field in value.items()
            }
        elif keyword == "required":
            result["required"] = value
        elif keyword == "additionalProperties":
            if value is not False:
                result["additionalProperties"] = _convert(value, definitions, f"{path}.*")
        elif keyword not in _DROPPED | {"default", "$defs"}:
            raise ValueError(f"{path}: no structural form of {keyword}")
    default = _default(schema.get("default"), result)
    if default is not None:
        result["default"] = default
    rules = [*_rules(path), *_fractional_bounds(result)]
    if rules:
        result["x-kubernetes-validations"] = rules
    return result


def _inlined(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Without reference, and without "or null": an optional field is one that is not required."""
    if "anyOf" in schema:
        others = [option for option in schema["anyOf"] if option != {"type": "null"}]
        if len(others) == 1:
            outer = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
            schema = {**others[0], **outer}
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        outer = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
        return _inlined({**target, **outer}, definitions)
    return schema


def _int_or_string(options: list[Schema], path: str) -> Schema:
    """A bound concerns only a number and a pattern only a text, so both may stand side by side."""
    if sorted(option.get("type", "") for option in options) != ["integer", "string"]:
        raise ValueError(f"{path}: no structural form of a union but int or str")
    merged = {keyword: value for option in options for keyword, value in option.items() if keyword != "type"}
    return {"x-kubernetes-int-or-string": True, **merged}


def _default(value: Any, schema: Schema) -> Any:
    """An empty default changes nothing; one of an object is made of its fields' own."""
    if schema.get("type") == "object":
        fields = schema.get("properties", {}).values()
        return {} if value is not None and any("default" in field for field in fields) else None
    return None if value in ("", [], {}) else value


def _fractional_bounds(schema: Schema) -> list[Schema]:
    """The API server cuts a bound to a whole number when it compares it with one: 0 would pass as >= 0.05."""
    least = schema.get("minimum", 0)
    if schema.get("type") != "number" or least == int(least):
        return []
    return [{"rule": f"self >= {least}", "message": f"must be greater than or equal to {least}"}]


def _rules(path: str) -> list[Schema]:
    """What no schema says, by the path it is said at; the model's validators refuse the same."""
    if path == "metadata":
        # The API server lets a rule at the root see the name, and nothing else of metadata.
        name = Metadata.model_json_schema()["properties"]["name"]
        return [
            {
                "rule": f"self.metadata.name.size() <= {name['maxLength']}",
                "message": f"must have at most {name['maxLength']} characters; Jobs are named after it",
                "fieldPath": ".metadata.name",
            },
            {
                "rule": f"self.metadata.name.matches('{name['pattern']}')",
                "message": "must be lower-case letters, digits and dashes between them; no dots",
                "fieldPath": ".metadata.name",
            },
        ]
    if path == "spec.exclude[]":
        return [
            {
                "rule": f"!has(self.{axis}) || self.{axis}.all(value, value != '{word}')",
                "message": f"`{word}` in {axis} names no value; exclude by the value it stands for",
            }
            for axis, words in NOT_IN_EXCLUDE.items()
            for word in words
        ]
    if path == "spec.pods.tolerations[]":
        return [
            {
                "rule": "self.operator != 'Exists' || !has(self.value) || self.value == ''",
                "message": "operator Exists takes no value",
            },
            {
                "rule": "self.operator != 'Equal' || (has(self.key) && self.key != '')",
                "message": "operator Equal needs a key",
            },
        ]
    return []
