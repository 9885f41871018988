"""The command line of the plugin, as a whole."""

from __future__ import annotations

from click.testing import CliRunner

from k8s import plugin

COMMANDS = ["doctor", "logs", "plan", "remeasure", "resume", "retry", "status", "suspend", "table", "wait"]


def test_each_command_has_examples_and_the_options_of_kubectl() -> None:
    assert sorted(plugin.cli.commands) == COMMANDS
    for name in COMMANDS:
        text = CliRunner().invoke(plugin.cli, [name, "--help"]).output
        assert f"kubectl aicsweep {name}" in text
        for option in ("--namespace", "--context", "--kubeconfig"):
            assert option in text
