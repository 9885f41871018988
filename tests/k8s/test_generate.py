"""What is made from the model is as the model says."""

from __future__ import annotations

import json

import pytest

from k8s import generate, reference
from k8s.crd import sweep_schema

FILES = generate.files()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_fresh(path):
    assert (generate.ROOT / path).read_text() == FILES[path], "stale: `make generate`"


def test_the_reference_names_every_field():
    page = next(text for path, text in FILES.items() if path.name == "sweep.md")
    rows = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert {"spec.grid.batchSize", "spec.exclude[].models", "spec.limits.rounds"} <= rows
    assert {"status.cells.infeasible", "status.conditions[].reason"} <= rows
    assert {f"spec.{name}" for name in sweep_schema()["properties"]["spec"]["properties"]} <= rows
    assert "fill` in instances names no value" in page


def test_descriptions_are_one_line():
    def descriptions(schema):
        for value in schema if isinstance(schema, list) else [*schema.values()]:
            if isinstance(value, dict | list):
                yield from descriptions(value)
        if isinstance(schema, dict) and isinstance(schema.get("description"), str):
            yield schema["description"]

    said = [*descriptions(sweep_schema()), *descriptions(reference.editor_schema())]
    assert len(said) > 100
    assert not [text for text in said if "\n" in text or "  " in text]


def test_the_editors_schema_stands_alone():
    text = next(text for path, text in FILES.items() if path.suffix == ".json")
    schema = json.loads(text)
    assert {ref.split('"')[0] for ref in text.split("#/$defs/")[1:]} <= set(schema["$defs"])
    assert '"null"' not in text
    assert set(schema["properties"]) == {"apiVersion", "kind", "metadata", "spec"}
    assert schema["$defs"]["SweepSpec"]["additionalProperties"] is False
