"""Schema and table of the chart's values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from k8s import generate, values
from runner.pod_settings import Pods

GIVEN = (generate.ROOT / generate.CHART / "values.yaml").read_text()
SCHEMA = values.schema(GIVEN)
SMALL = """\
# How many.
# Of those there are.
# @schema {minimum: 1}
count: 3

# A part.
part:
  # Its name.
  name: ""
  # What it is called besides.
  # @schema {items: {type: string}}
  others: []
"""


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object, wherever it stands."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")


def test_a_schema_is_made_of_defaults_and_comments() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "_models", lambda _: {})
        made = values.schema(SMALL)["properties"]
    assert made["count"] == {
        "type": "integer",
        "description": "How many. Of those there are.",
        "minimum": 1,
        "default": 3,
    }
    assert made["part"]["additionalProperties"] is False
    assert made["part"]["properties"]["name"] == {"type": "string", "description": "Its name.", "default": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count: 3\n", "count: has no comment"),
        ("# A part.\npart:\n  # Of it.\n\n  name: 1\n", r"part\.name: has no comment"),
        ("# Some.\nlist: []\n", "list: its default is empty"),
        ("# Some.\nmap: {}\n", "map: its default is empty"),
        ("# Some.\n# @schema {minItems: 1}\nlist: []\n", "list: its default is empty"),
    ],
)
def test_what_the_comments_leave_out_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        values.schema(text)


def test_every_object_is_closed() -> None:
    found = dict(objects(SCHEMA))
    assert len(found) > 20
    for path, each in found.items():
        if path == "/properties/global":
            continue
        allowed = each["additionalProperties"]
        # A map says what its values are.
        assert allowed is False or allowed["type"] == "string", path


def test_the_committed_values_fit_their_own_keys() -> None:
    given = yaml.safe_load(GIVEN)
    assert set(given) | {"global"} == set(SCHEMA["properties"])


def test_pods_inherit_by_the_names_of_a_sweep() -> None:
    fields = {field.alias for field in Pods.model_fields.values()}
    assert set(SCHEMA["properties"]["pods"]["properties"]) == fields - {"buildImage", "measureImage"}


def test_the_table_has_every_value_and_leaves_what_is_above_it() -> None:
    readme = (generate.ROOT / generate.CHART / "README.md").read_text()
    by_hand, _, table = values.with_table(readme, GIVEN).partition(values._MARK)
    assert readme.startswith(by_hand)
    rows = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert {"store.dev.enabled", "pods.deviceGroup", "pods.build.cpu", "controller.settings.workers"} <= rows
    with pytest.raises(ValueError, match="no line"):
        values.with_table("# Without mark\n", GIVEN)
