"""The command line of the plugin: what it decides without a cluster, and what it says where one refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import click
import pytest
from aiohttp import web
from click.testing import CliRunner

from k8s import completion, plugin, plugin_options
from k8s.access import Access, explained, with_request
from k8s.api import Api, Object
from k8s.api_errors import ApiError, Forbidden, translate
from k8s.plugin_options import Duration
from k8s.resources import PLUGIN_CALLS, PODS, SWEEPS, Call
from runner.errors import BadInput, Infrastructure
from runner.spec import MAX_AGAIN, Again
from tests.k8s.standin import api_of, refusal, standing_in

COMMANDS = ["doctor", "logs", "plan", "remeasure", "resume", "retry", "status", "suspend", "table", "wait"]


def test_each_command_has_examples_and_the_options_of_kubectl() -> None:
    assert sorted(plugin.cli.commands) == COMMANDS
    for name in COMMANDS:
        text = CliRunner().invoke(plugin.cli, [name, "--help"]).output
        assert f"kubectl aicsweep {name}" in text
        for option in ("--namespace", "--context", "--kubeconfig"):
            assert option in text


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


# --- what a refusal means to the person


async def _asked(server_says: Callable[[], web.Response], verb: str = "get") -> Infrastructure:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        server.fail(verb, "sweeps", server_says)
        with pytest.raises(ApiError) as caught:
            await Access(api, "team-a").sweep("it")
    return explained(caught.value, "team-a")


async def test_a_cluster_without_sweeps() -> None:
    error = await _asked(lambda: web.Response(status=404, text="404 page not found\n"))
    assert error.message == "this cluster knows no Sweeps"
    assert "kubectl apply -f k8s/crd/sweeps.aicsweep.dev.yaml" in error.remedy


async def test_credentials_that_are_refused() -> None:
    error = await _asked(lambda: refusal(401, "Unauthorized"))
    assert error.message == "the cluster refuses your credentials"


async def test_a_server_in_trouble() -> None:
    error = await _asked(lambda: refusal(503, "ServiceUnavailable"))
    assert "can't get sweeps team-a/it" in error.message
    assert "kubectl cluster-info" in error.remedy


def test_a_missing_right_is_named() -> None:
    words = (
        b'{"message": "pods is forbidden: User \\"me\\" cannot get resource \\"pods/log\\" in the namespace"}'
    )
    error = translate(403, "get pods/log team-a/p", words)
    error.call = Call("get", PODS, "log")
    told = explained(error, "team-a")
    assert told.message == "you may not get pods/log in namespace team-a"
    assert "`kubectl auth can-i get pods --subresource=log -n team-a`" in told.remedy


def test_a_quota_is_no_missing_right() -> None:
    error = translate(403, "create pods team-a/p", b'{"message": "exceeded quota: pods=10"}')
    error.call = Call("create", PODS)
    assert isinstance(explained(error, "team-a"), Forbidden)
    assert "exceeded quota" in explained(error, "team-a").message


@pytest.mark.parametrize(
    ("name", "words"), [("quikstart", "did you mean quickstart?"), ("zz", "there are cores, quickstart")]
)
async def test_the_nearest_names(name: str, words: str) -> None:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        for known in ("quickstart", "cores"):
            await server.put("sweeps", {"metadata": {"namespace": "team-a", "name": known}})
        with pytest.raises(BadInput, match="is not in namespace team-a") as caught:
            await Access(api, "team-a").sweep(name)
    assert words in str(caught.value)


async def test_only_its_own_calls_leave() -> None:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        with pytest.raises(ValueError, match="no right"):
            await api.delete(SWEEPS, "a", "b", "u")
        assert isinstance(api, Api)
        assert server.calls == []


# --- asking to measure again


def sweep(*ids: str, **status: object) -> Object:
    again = [{"id": id_, "where": "True"} for id_ in ids]
    meta = {"namespace": "team-a", "name": "it", "generation": 3, "uid": "u"}
    return {"metadata": meta, "spec": {"models": ["resnet50"], "again": again}, "status": status}


def ids(found: Object) -> list[str]:
    return [entry["id"] for entry in found["spec"]["again"]]


async def test_a_request_is_added_whatever_others_change_meanwhile() -> None:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        await server.put("sweeps", sweep("a"))
        server.fail("patch", "sweeps", lambda: refusal(409, "Conflict"), times=2)
        written = await Access(api, "team-a").ask_again("it", Again(id="b", where="ci > 2%"))
        assert ids(written) == ["a", "b"]
        assert written["spec"]["again"][1] == {"id": "b", "where": "ci > 2%"}
        assert server.verbs("sweeps") == ["get", "patch"] * 3
        # Two who ask at once: none of them writes over the other's.
        ask = [Access(api, "team-a").ask_again("it", Again(id=id_, where="True")) for id_ in ("c", "d")]
        await asyncio.gather(*ask)
        assert sorted(ids(await Access(api, "team-a").sweep("it"))) == ["a", "b", "c", "d"]
        server.fail("patch", "sweeps", lambda: refusal(409, "Conflict"), times=99)
        with pytest.raises(Infrastructure, match="changed all the time"):
            await Access(api, "team-a").ask_again("it", Again(id="e", where="True"))


async def test_a_cluster_that_drops_the_request_is_told_of() -> None:
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        await server.put("sweeps", sweep())
        server.fail("patch", "sweeps", lambda: web.json_response(sweep()))
        with pytest.raises(Infrastructure, match="know no `again` yet"):
            await Access(api, "team-a").ask_again("it", Again(id="b", where="True"))


def test_the_oldest_request_makes_room_once_it_was_planned() -> None:
    full = [f"r{number}" for number in range(MAX_AGAIN)]
    entry = {"id": "new", "where": "True"}
    planned = sweep(*full, observedGeneration=3, planDigest="p")
    assert [each["id"] for each in with_request(planned, entry)] == [*full[1:], "new"]
    for status in ({}, {"observedGeneration": 3}, {"observedGeneration": 2, "planDigest": "p"}):
        with pytest.raises(BadInput, match=r"spec\.again: holds 32 requests that are not planned yet"):
            with_request(sweep(*full, **status), entry)


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

    monkeypatch.setattr(plugin, "run", run)
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
    monkeypatch.setattr(plugin, "run", lambda context, work: asked)
    done = CliRunner().invoke(plugin.cli, ["retry", "it"])
    assert ("running work ends and is planned anew" in done.output) is said


def test_a_condition_that_no_table_can_answer_never_reaches_the_cluster() -> None:
    done = CliRunner().invoke(plugin.cli, ["remeasure", "it", "--where", "thruput > 1"])
    assert isinstance(done.exception, BadInput)
    assert "'thruput' is no column" in str(done.exception)


# --- completion


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
