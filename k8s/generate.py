"""Writes every file that is made from the model: `python -m k8s.generate`. A test fails when one is stale."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from k8s import crd, reference

ROOT = Path(__file__).parent.parent
_NOTE = "Made by `make generate` from runner/spec.py and k8s/status.py; do not edit."


def files() -> dict[Path, str]:
    """Path below the checkout -> what it should hold."""
    definition = yaml.dump(
        crd.custom_resource_definition(), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True
    )
    return {
        Path(f"k8s/crd/{crd.NAME}.yaml"): f"# {_NOTE}\n{definition}",
        Path("docs/sweep.schema.json"): json.dumps(
            {"$comment": _NOTE, **reference.editor_schema()}, indent=1, ensure_ascii=False
        )
        + "\n",
        Path("docs/sweep.md"): f"<!-- {_NOTE} -->\n{reference.page()}",
    }


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
