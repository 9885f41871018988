"""Options as kubectl's own are written."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from k8s import plugin
from k8s.plugin_options import Duration


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("2m", 120), ("24h", 86400), ("0.5", 0.5), ("1h30m", 5400), ("500ms", 0.5)],
)
def test_times(text: str, value: float) -> None:
    assert Duration().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["", "soon", "-1m", "infh", "nan", "3d", "1m soon"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no time such as"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "0s", "20m"])
def test_a_time_has_its_bounds(text: str) -> None:
    with pytest.raises(click.UsageError, match="must be at least 1s and at most 600s"):
        Duration(least_s=1, most_s=600).convert(text, None, None)


@pytest.mark.parametrize("given", [["--request-timeout", "0.5s"], ["--for", "Complete"]])
def test_what_kubectl_would_not_take(given: list[str]) -> None:
    found = CliRunner().invoke(plugin.cli, ["wait", "it", *given])
    assert (found.exit_code, f"Invalid value for '{given[0]}'" in found.output) == (2, True)
