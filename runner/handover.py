"""What the stages of a plan tell each other where they run in pods of their own: answers of export and compile.

    export  --made/<plan>/export/<request>.json-->   compile, measure
    compile --made/<plan>/compile/<number>.json-->   measure

A measure pod has neither exporter nor compiler, so it can't work out an artefact's key. The whole
manifest is handed over: no further request is needed to find the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from runner import artifacts
from runner.artifacts import Artifact
from runner.build import Answers, Made
from runner.errors import Infeasible, PointFailed, StoreError
from runner.keys import canonical
from runner.plan import Plan, Task
from runner.result import LOG_TAIL_BYTES
from runner.store import NotFound, Store


def put_exports(home: Store, plan: str, answers: Answers) -> None:
    for request, answer in answers.items():
        home.put(_export_key(plan, request), canonical({request: _encoded(answer)}))


def put_binaries(home: Store, plan: str, number: int, answers: Answers) -> None:
    """The answers of one compile task, in place of what an earlier attempt said."""
    encoded = {binary: _encoded(answer) for binary, answer in answers.items()}
    home.put(_compile_key(plan, number), canonical(encoded))


def exports_for(home: Store, plan: Plan, tasks: Sequence[Task]) -> Answers:
    """Answers to what the tasks need exported; those whose pod gave none are left out."""
    requests = dict.fromkeys(task.export for task in tasks)
    return dict(_read(home, [_export_key(plan.digest, request) for request in requests]))


def made_for(home: Store, plan: Plan, tasks: Sequence[Task]) -> Made:
    """What was made for the tasks; answers that no pod gave are left out."""
    numbers = dict.fromkeys(plan.compiled_with[task.binary] for task in tasks if task.binary)
    binaries = dict(_read(home, [_compile_key(plan.digest, number) for number in numbers]))
    return Made(exports_for(home, plan, tasks), binaries)


def _export_key(plan: str, request: str) -> str:
    return f"made/{plan}/export/{request}.json"


def _compile_key(plan: str, number: int) -> str:
    return f"made/{plan}/compile/{number:05d}.json"


def _read(home: Store, names: Iterable[str]) -> Iterator[tuple[str, Artifact | PointFailed]]:
    for name in names:
        try:
            data = home.get(name)
        except NotFound:
            continue
        try:
            yield from ((key, _decoded(answer)) for key, answer in orjson.loads(data).items())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{home.url}/{name} can't be understood",
                remedy="Was it written by another aicsweep? Delete it and run the sweep's Jobs again.",
            ) from error


def _encoded(answer: Artifact | PointFailed) -> Mapping[str, Any]:
    if isinstance(answer, Artifact):
        return {"artifact": artifacts.to_record(answer)}
    return {
        "verdict": answer.verdict,
        "stage": answer.stage,
        "reason": answer.reason,
        "message": answer.message,
        "remedy": answer.remedy,
        "log_tail": answer.log_tail[-LOG_TAIL_BYTES:],
    }


def _decoded(answer: Mapping[str, Any]) -> Artifact | PointFailed:
    if "artifact" in answer:
        return artifacts.from_record(answer["artifact"])
    kind = Infeasible if answer["verdict"] == Infeasible.verdict else PointFailed
    return kind(
        answer["stage"],
        answer["reason"],
        answer["message"],
        remedy=answer["remedy"],
        log_tail=answer["log_tail"],
    )
