"""What needs no node."""

from __future__ import annotations

from k8s.settings import read_settings
from tests.nodes.bench import settings


def test_the_controller_is_given_settings_that_it_has() -> None:
    given = {f"AICSWEEP_{name.upper()}": value for name, value in settings("a", "build", "measure").items()}
    assert read_settings(given).namespaces == ("a",)
