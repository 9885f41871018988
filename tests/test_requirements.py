"""The pinned requirements fit pyproject.toml and carry hashes but no addresses."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^([a-z0-9-]+)==([^ ;]+)", re.MULTILINE)


def wanted(*extras: str) -> list[Requirement]:
    listed = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        listed += PROJECT["project"]["optional-dependencies"][extra]
    return [Requirement(text) for text in listed]


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("core", wanted()),
        ("export", wanted("export")),
        ("dev", [*wanted("export", "controller"), *map(Requirement, PROJECT["dependency-groups"]["dev"])]),
        ("controller", wanted("controller")),
        ("images", list(map(Requirement, PROJECT["dependency-groups"]["images"]))),
        ("uv", list(map(Requirement, PROJECT["dependency-groups"]["bootstrap"]))),
    ],
)
def test_every_requirement_is_pinned_within_its_bounds(name, needed):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    pins = PIN.findall(text)
    for requirement in needed:
        versions = [version for pinned, version in pins if pinned == requirement.name.lower()]
        assert versions, requirement
        assert all(version in requirement.specifier for version in versions), (requirement, versions)
    assert "--hash=sha256:" in text
    assert "://" not in text


@pytest.mark.parametrize("name", ["core", "controller"])
def test_what_measures_and_what_controls_has_no_torch(name):
    assert "torch" not in (ROOT / "requirements" / f"{name}.txt").read_text()
