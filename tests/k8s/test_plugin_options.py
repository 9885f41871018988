"""Options as kubectl's own are written."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from k8s import plugin


@pytest.mark.parametrize("given", [["--request-timeout", "0.5s"], ["--for", "Complete"]])
def test_what_kubectl_would_not_take(given: list[str]) -> None:
    found = CliRunner().invoke(plugin.cli, ["wait", "it", *given])
    assert (found.exit_code, f"Invalid value for '{given[0]}'" in found.output) == (2, True)
