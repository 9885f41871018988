"""The controller before a real API server: what the server makes of its requests, and whole processes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from k8s.api import PAGE, Api, connect
from k8s.api_errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from k8s.resources import CALLS, EVENTS, JOBS, LEASES, SWEEPS, Call, rules
from tests.cluster import program
from tests.cluster.cluster import Cluster, until
from tests.cluster.program import Program

pytestmark = pytest.mark.cluster
LABELS = {"app.kubernetes.io/managed-by": "aicsweep"}


def sweep(name: str = "small", **spec: Any) -> dict[str, Any]:
    wanted = {"backend": "fake", "models": ["resnet50"], "results": {"url": "s3://bench/aicsweep"}, **spec}
    return {
        "apiVersion": "aicsweep.dev/v1alpha1",
        "kind": "Sweep",
        "metadata": {"name": name},
        "spec": wanted,
    }


def job(namespace: str, name: str, **metadata: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "none"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"namespace": namespace, "name": name, "labels": LABELS, **metadata},
        "spec": {"suspend": True, "template": template},
    }


def asking(
    cluster: Cluster,
    questions: Callable[[Api], Awaitable[None]],
    kubeconfig: Path | None = None,
    *,
    calls: Sequence[Call] = CALLS,
) -> None:
    async def ask() -> None:
        async with connect(kubeconfig=str(kubeconfig or cluster.kubeconfig), calls=calls) as api:
            await questions(api)

    asyncio.run(ask())


# --- requests


def test_a_list_in_pages_then_a_watch_from_its_version(cluster: Cluster, namespace: str) -> None:
    async def ask(api: Api) -> None:
        await asyncio.gather(*(api.create(JOBS, job(namespace, f"j-{n}")) for n in range(PAGE + 1)))
        where = {"namespace": namespace, "selector": "app.kubernetes.io/managed-by=aicsweep"}
        pages = [(page, version) async for page, version in api.pages(JOBS, **where)]
        assert [len(page) for page, _ in pages] == [PAGE, 1]
        (version,) = {version for _, version in pages}
        async with api.watch(JOBS, version, silence_s=60, **where) as events:
            made = await api.create(JOBS, job(namespace, "new"))
            # The Job controller writes to the others too.
            async for event, found in events:
                if found["metadata"]["name"] == "new":
                    assert event == "ADDED"
                    assert found["metadata"]["uid"] == made["metadata"]["uid"]
                    break

    asking(cluster, ask)


def test_answers_that_say_no(cluster: Cluster, namespace: str) -> None:
    async def ask(api: Api) -> None:
        made = await api.create(JOBS, job(namespace, "one"))
        with pytest.raises(AlreadyExists):
            await api.create(JOBS, job(namespace, "one"))
        with pytest.raises(NotFound):
            await api.get(JOBS, namespace, "none")
        with pytest.raises(Invalid, match=r"spec\.parallelism"):
            await api.patch(JOBS, namespace, "one", {"spec": {"parallelism": -1}})
        with pytest.raises(Conflict):
            await api.patch(JOBS, namespace, "one", {"metadata": {"resourceVersion": "1"}})
        with pytest.raises(Conflict, match="UID in record"):
            await api.delete(JOBS, namespace, "one", "another")
        await api.delete(JOBS, namespace, "one", made["metadata"]["uid"])

    asking(cluster, ask)


def test_a_status_goes_to_the_sweep_it_is_of_and_no_other(sweeps: Cluster, namespace: str) -> None:
    sweeps.apply(sweep(), namespace=namespace)
    found = sweeps.get("sweep", "small", "-n", namespace)

    async def ask(api: Api) -> None:
        written = await api.replace_status(SWEEPS, found, {"phase": "Planning", "round": 1})
        assert written["status"] == {"phase": "Planning", "round": 1, "observedGeneration": 0}
        # The whole status: what is no longer said is gone.
        written = await api.replace_status(SWEEPS, written, {"phase": "Merging"})
        assert (written["status"]["phase"], written["status"]["round"]) == ("Merging", 0)
        another = {"metadata": {**written["metadata"], "uid": "the one before"}}
        for old in (found, another):
            with pytest.raises(Conflict):
                await api.replace_status(SWEEPS, old, {"phase": "Complete"})
        with pytest.raises(Invalid, match=r"status\.phase"):
            await api.replace_status(SWEEPS, written, {"phase": "Elsewhere"})

    asking(sweeps, ask)
    assert sweeps.get("sweep", "small", "-n", namespace)["status"]["phase"] == "Merging"


# --- rights


@pytest.fixture(scope="module")
def with_its_rights(sweeps: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of a service account that may do what CALLS says, and nothing else."""
    account = {"kind": "ServiceAccount", "name": "aicsweep-controller", "namespace": "default"}
    sweeps.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account["name"]}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "aicsweep-test"},
            "rules": rules(CALLS),
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "aicsweep-test"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "aicsweep-test",
            },
            "subjects": [account],
        },
    )
    token = sweeps.kubectl("create", "token", account["name"], "-n", "default", "--duration=1h").strip()
    config = json.loads(sweeps.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    file = tmp_path_factory.mktemp("rights") / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


def test_its_rights_are_enough_for_each_of_its_calls(
    sweeps: Cluster, namespace: str, with_its_rights: Path
) -> None:
    """Each is asked for something harmless; that nothing of the name is there is an answer too."""

    async def ask(api: Api) -> None:
        for call in CALLS:
            of = call.resource
            asked: Awaitable[object]
            match call.verb:
                case "get":
                    asked = api.get(of, namespace, "none")
                case "list":
                    asked = anext(api.pages(of))
                case "watch":
                    asked = api.watch(of, "0", silence_s=30).__aenter__()
                case "create":
                    asked = api.create(
                        of, {**job(namespace, "none"), "apiVersion": of.api_version, "kind": of.kind}
                    )
                case "patch" if call.subresource:
                    none = {"namespace": namespace, "name": "none", "uid": "uid", "resourceVersion": "1"}
                    asked = api.replace_status(of, {"metadata": none}, {})
                case "patch":
                    asked = api.patch(of, namespace, "none", {})
                case "delete":
                    asked = api.delete(of, namespace, "nothing", "uid")
            try:
                await asked
            except (NotFound, Invalid):
                continue
        with pytest.raises(Forbidden):
            await api.create(SWEEPS, {**sweep(), "metadata": {"name": "x", "namespace": namespace}})

    # One call too many, so that the server is the one to refuse it.
    asking(sweeps, ask, with_its_rights, calls=(*CALLS, Call("create", SWEEPS)))
    assert {call.resource for call in CALLS} >= {SWEEPS, JOBS, EVENTS, LEASES}


# --- processes


@pytest.fixture
def controllers(
    sweeps: Cluster, namespace: str, tmp_path: Path, with_its_rights: Path
) -> Iterator[Callable[[str], Program]]:
    """Starts controllers of this test's namespace, by their identity; each with the rights of CALLS only."""
    started: list[Program] = []

    def start(identity: str) -> Program:
        settings = {"namespaces": namespace, "lease_namespace": namespace, "lease_s": "4"}
        started.append(program.start(with_its_rights, tmp_path, identity, **settings))
        return started[-1]

    yield start
    for each in started:
        each.popen.kill()
        each.popen.wait()


def jobs_of(cluster: Cluster, namespace: str) -> list[str]:
    return [found["metadata"]["name"] for found in cluster.get("jobs", "-n", namespace)]


def status_of(cluster: Cluster, namespace: str, name: str = "small") -> dict[str, Any]:
    status: dict[str, Any] = cluster.get("sweep", name, "-n", namespace).get("status", {})
    return status


def test_a_sweep_is_planned_suspended_and_ends_without_a_word_of_refusal(
    sweeps: Cluster, namespace: str, controllers: Callable[[str], Program]
) -> None:
    process = controllers("one")
    until(process.ready)
    sweeps.apply(sweep(), sweep("bad", models=["no-such-model"]), namespace=namespace)
    (name,) = until(lambda: jobs_of(sweeps, namespace))
    until(lambda: status_of(sweeps, namespace).get("phase") == "Planning")
    made = sweeps.get("job", name, "-n", namespace)
    assert made["metadata"]["ownerReferences"][0]["name"] == "small"
    until(lambda: status_of(sweeps, namespace, "bad").get("phase") == "Invalid")
    sweeps.kubectl(
        "patch", "sweep", "small", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}'
    )
    until(lambda: status_of(sweeps, namespace).get("phase") == "Suspended")
    until(lambda: "running work ends" in sweeps.kubectl("describe", "sweep", "small", "-n", namespace))
    sweeps.kubectl("delete", "sweep", "--all", "-n", namespace, "--wait=false")
    until(lambda: not jobs_of(sweeps, namespace), "children go with their Sweep")
    assert process.end() == 0
    assert [line["message"] for line in process.lines() if line["level"] != "info"] == []


def test_a_pass_that_finds_nothing_new_writes_nothing(
    sweeps: Cluster, namespace: str, controllers: Callable[[str], Program]
) -> None:
    """Also when the server has added defaults to what was written."""
    process = controllers("one")
    until(process.ready)
    sweeps.apply(sweep(), namespace=namespace)
    until(lambda: "no nodes" in status_of(sweeps, namespace).get("waiting", ""))

    def written() -> float:
        calls = [(verb, of) for verb in ("create", "patch", "delete") for of in ("sweeps", "jobs", "events")]
        return sum(process.count("aicsweep_api_calls_total", verb=verb, resource=of) for verb, of in calls)

    for number in range(3):
        passes, before = process.count("aicsweep_passes_total"), written()
        sweeps.kubectl("annotate", "sweep", "small", "-n", namespace, "--overwrite", f"look={number}")
        until(lambda passes=passes: process.count("aicsweep_passes_total") > passes)  # type: ignore[misc]
        assert written() == before
    assert process.end() == 0


def test_a_foreign_job_is_named_where_its_user_looks(
    sweeps: Cluster, namespace: str, controllers: Callable[[str], Program]
) -> None:
    process = controllers("one")
    sweeps.apply(sweep(), namespace=namespace)
    (name,) = until(lambda: jobs_of(sweeps, namespace))
    assert process.end() == 0
    sweeps.kubectl("delete", "job", name, "-n", namespace)
    sweeps.apply(job(namespace, name, labels={}), namespace=namespace)
    controllers("two")
    text = f"Job {name} is there and is not of this Sweep"
    until(lambda: text in status_of(sweeps, namespace).get("waiting", ""))
    assert "NameTaken" in until(lambda: sweeps.kubectl("describe", "sweep", "small", "-n", namespace))
    sweeps.kubectl("delete", "job", name, "-n", namespace)
    until(lambda: jobs_of(sweeps, namespace) == [name])
    until(lambda: text not in status_of(sweeps, namespace).get("waiting", ""))


def test_another_one_takes_over_from_one_that_was_killed_or_ended(
    sweeps: Cluster, namespace: str, controllers: Callable[[str], Program]
) -> None:
    one = controllers("one")
    until(one.led_at)
    two = controllers("two")
    until(two.ready, "one that does not lead is ready too")
    assert not two.led_at()
    one.end(signal.SIGKILL)
    until(two.led_at)
    three = controllers("three")
    until(three.ready)
    assert two.end() == 0
    until(three.led_at)
    sweeps.apply(sweep(), namespace=namespace)
    until(lambda: jobs_of(sweeps, namespace))


def test_an_api_server_that_was_away_is_no_reason_to_end(
    sweeps: Cluster, namespace: str, controllers: Callable[[str], Program]
) -> None:
    process = controllers("one")
    until(process.led_at)
    sweeps.apply(sweep(), namespace=namespace)
    until(lambda: jobs_of(sweeps, namespace))
    sweeps.stop("kube-apiserver")
    until(lambda: any(line["message"] == "no longer leading" for line in process.lines()))
    sweeps.start("kube-apiserver")
    until(lambda: sum(line["message"] == "leading" for line in process.lines()) == 2)
    until(process.ready)
    sweeps.apply(sweep("after"), namespace=namespace)
    until(lambda: len(jobs_of(sweeps, namespace)) == 2)
    assert process.end() == 0
