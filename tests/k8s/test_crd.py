"""The definition is structural, bounded and described; a model that has no such form is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from k8s import crd
from runner.spec import API_VERSION

SCHEMA = crd.sweep_schema()
# By the documentation of CustomResourceDefinition; `anyOf` is allowed there only without types.
FORBIDDEN = {
    *("$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "examples", "deprecated"),
    *("definitions", "dependencies", "id", "patternProperties", "prefixItems", "propertyNames", "readOnly"),
    *("uniqueItems", "writeOnly", "xml"),
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}".removeprefix("."))
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}.*")


OURS = {path: node for path, node in nodes(SCHEMA) if path.startswith(("spec", "status"))}


def test_nothing_that_a_structural_schema_refuses():
    assert len(OURS) > 100
    for path, node in nodes(SCHEMA):
        assert not FORBIDDEN & set(node), path
        assert ("type" in node) != ("x-kubernetes-int-or-string" in node), path
        assert node.get("additionalProperties") is not False, path
        assert isinstance(node.get("exclusiveMinimum", True), bool), path


def test_everything_is_bounded():
    for path, node in OURS.items():
        if node.get("type") == "array":
            assert node["maxItems"] <= 256, path
        if "additionalProperties" in node:
            assert node["maxProperties"] <= 16, path
        if node.get("type") == "string" or "x-kubernetes-int-or-string" in node:
            assert "enum" in node or node["maxLength"] <= 2048, path
        if node.get("type") == "integer" and path.startswith("spec"):
            assert {"minimum", "maximum"} <= set(node), path


def test_every_field_is_described():
    for path, node in OURS.items():
        if not path.endswith(("[]", "*")):
            assert node.get("description", "").endswith((".", ")")), path


def test_rules_are_where_they_belong():
    rules = {path: len(node.get("x-kubernetes-validations", ())) for path, node in nodes(SCHEMA)}
    assert {path: count for path, count in rules.items() if count} == {
        "": 2,
        "spec.exclude[]": 4,
        "spec.measure.seconds": 1,
        "spec.pods.tolerations[]": 2,
    }


def test_group_and_version_are_those_of_the_spec():
    assert f"{crd.GROUP}/{crd.VERSION}" == API_VERSION


def test_an_object_defaults_to_its_fields_defaults():
    assert OURS["spec.measure"]["default"] == {}
    assert OURS["spec.measure.repeats"]["default"] == 5
    assert "default" not in OURS["spec.grid"]
    assert "default" not in OURS["spec.results.url"]
    assert "default" not in OURS["status.conditions"]


def test_columns_show_what_there_is():
    for name, kind, path, _ in crd.COLUMNS:
        if path.startswith(".status"):
            assert OURS[path.removeprefix(".")]["type"] == kind, name


def form(annotation: Any) -> dict[str, Any]:
    model = type("M", (BaseModel,), {"__annotations__": {"field": annotation}})
    return crd.structural(model, "x")["properties"]["field"]


class Inner(BaseModel):
    """An inner one."""

    value: Annotated[float, Field(gt=0, lt=2)]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Literal["a"], {"type": "string", "enum": ["a"]}),
        (int | None, {"type": "integer"}),
        (int | str, {"x-kubernetes-int-or-string": True}),
        (set[str], {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            Inner | None,
            {
                "type": "object",
                "description": "An inner one.",
                "required": ["value"],
                "properties": {
                    "value": {
                        "type": "number",
                        "minimum": 0,
                        "exclusiveMinimum": True,
                        "maximum": 2,
                        "exclusiveMaximum": True,
                    }
                },
            },
        ),
    ],
    ids=str,
)
def test_form(annotation, expected):
    assert form(annotation) == expected


@pytest.mark.parametrize("annotation", [tuple[int, int], int | Inner, float | bool], ids=str)
def test_what_has_no_form_is_told(annotation):
    with pytest.raises(ValueError, match=r"x\.field"):
        form(annotation)


def test_what_an_installation_has_defaults_for_is_not_filled_in_by_the_server():
    version = crd.custom_resource_definition()["spec"]["versions"][0]
    pods = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["pods"]
    filled_in = {path for path, node in nodes(pods) if "default" in node}
    # Of a toleration that is given the operator must be known: a rule reads it.
    assert filled_in == {"tolerations[].operator"}
    # The page for people says what counts where nobody says anything.
    assert OURS["spec.pods.deviceGroup"]["default"] == 995
