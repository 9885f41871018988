"""What is completed, in cobra's way, which kubectl speaks."""

from __future__ import annotations

import pytest

from k8s import completion, plugin_options


def test_completion_speaks_as_cobra_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_options, "sweep_names", lambda where: ["quickstart", f"of-{where.namespace}"])
    assert [line.split("\t")[0] for line in completion.answer(["s"])] == ["status", "suspend", ":4"]
    assert [line.split("\t")[0] for line in completion.answer(["re"])] == [
        "remeasure",
        "resume",
        "retry",
        ":4",
    ]
    assert completion.answer(["retry", "q"]) == completion.answer(["remeasure", "q"]) == ["quickstart", ":4"]
    assert [line.split("\t")[0] for line in completion.answer(["retry", "x", "--in"])] == [
        "--infeasible",
        ":4",
    ]
    assert completion.answer(["table", "q"]) == ["quickstart", ":4"]
    assert completion.answer(["table", "-n", "team-a", "of"]) == ["of-team-a", ":4"]
    assert completion.answer(["plan", ""]) == [":0"]
    assert [line.split("\t")[0] for line in completion.answer(["table", "x", "--be"])] == ["--best", ":4"]


def test_completion_without_a_cluster_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    assert completion.answer(["status", ""]) == [":4"]
