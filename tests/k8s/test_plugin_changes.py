"""What the commands that change a Sweep ask for, and say of it."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from k8s import plugin, plugin_changes
from k8s.access import Access
from k8s.api import Object
from runner.errors import BadInput
from runner.spec import Again
from tests.k8s.asked import sweep


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (["retry", "it"], "status == 'failed'"),
        (["retry", "it", "--failed"], "status == 'failed'"),
        (["retry", "it", "--infeasible"], "status == 'infeasible'"),
        (["retry", "it", "--failed", "--infeasible"], "status in ['failed', 'infeasible']"),
        (["remeasure", "it", "--where", "warnings or ci > 2%"], "warnings or ci > 2%"),
    ],
)
def test_what_the_commands_ask(monkeypatch: pytest.MonkeyPatch, args: list[str], where: str) -> None:
    monkeypatch.setattr(Access, "ask_again", lambda self, name, request: (name, request))
    asked: list[Again] = []

    def run(context: click.Context, work: Callable[[Access], tuple[str, Again]]) -> Object:
        name, request = work(Access(None, "team-a"))  # type: ignore[arg-type]
        assert name == "it"
        asked.append(request)
        return sweep(request.id) | {"spec": {"suspend": True}}

    monkeypatch.setattr(plugin_changes, "run", run)
    done = CliRunner().invoke(plugin.cli, args)
    assert done.exit_code == 0, done.output
    assert [request.where for request in asked] == [where]
    assert f"sweep.aicsweep.dev/it asked to measure again where {where}" in done.output
    assert "kubectl aicsweep resume it" in done.output


@pytest.mark.parametrize(("progressing", "said"), [("True", True), ("False", False)])
def test_that_running_work_ends_is_said(
    monkeypatch: pytest.MonkeyPatch, progressing: str, said: bool
) -> None:
    """The status is still that of the spec before."""
    conditions = [{"type": "Progressing", "status": progressing, "observedGeneration": 2}]
    asked = sweep("a", observedGeneration=2, conditions=conditions)
    monkeypatch.setattr(plugin_changes, "run", lambda context, work: asked)
    done = CliRunner().invoke(plugin.cli, ["retry", "it"])
    assert ("running work ends and is planned anew" in done.output) is said


def test_a_condition_that_no_table_can_answer_never_reaches_the_cluster() -> None:
    done = CliRunner().invoke(plugin.cli, ["remeasure", "it", "--where", "thruput > 1"])
    assert isinstance(done.exception, BadInput)
    assert "'thruput' is no column" in str(done.exception)
