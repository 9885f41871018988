"""Writes every file that is made from the model: `python -m k8s.generate`. A test fails when one is stale."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from k8s import chart, crd, reference, values

ROOT = Path(__file__).parent.parent
CHART = Path("helm/aicsweep")
_NOTE = "Made by `make generate` from runner/spec.py and k8s/status.py; do not edit."


def files() -> dict[Path, str]:
    """Path below the checkout -> what it should hold."""
    definition = crd.custom_resource_definition()
    given = (ROOT / CHART / "values.yaml").read_text()
    readme = (ROOT / CHART / "README.md").read_text()
    return {
        Path(f"k8s/crd/{crd.NAME}.yaml"): f"# {_NOTE}\n{_yaml(definition)}",
        Path("docs/sweep.schema.json"): json.dumps(
            {"$comment": _NOTE, **reference.editor_schema()}, indent=1, ensure_ascii=False
        )
        + "\n",
        Path("docs/sweep.md"): f"<!-- {_NOTE} -->\n{reference.page()}",
        CHART / "templates/crd.yaml": chart.crd_template(_yaml(definition)),
        CHART / "templates/_generated.tpl": chart.helpers(),
        CHART / "values.schema.json": json.dumps(values.schema(given), indent=1) + "\n",
        CHART / "README.md": values.with_table(readme, given),
    }


def _yaml(document: object) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Repeats what is equal instead of pointing to it: an alias is no YAML that people read."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def main() -> None:
    for path, text in files().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text)
        print(path)


if __name__ == "__main__":
    main()
