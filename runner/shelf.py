"""What a card needs of the store in local folders, fetched while it is still busy with the job before."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from runner import artifacts
from runner.artifacts import Artifact
from runner.build import Made
from runner.plan import Task
from runner.workplace import Workplace


class Shelf:
    """Graphs and binaries of a card in local folders. While it is busy the next job's are fetched from a remote
    store; where the CPU is the device, nothing else may run meanwhile."""

    def __init__(self, place: Workplace, made: Made) -> None:
        self._place, self._made = place, made
        remote = place.root.local_path("artifacts") is None
        self._fetches_ahead = remote and place.backend.COMPILES_ON == "host"
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._coming: dict[tuple[str, str], Future[Path]] = {}

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def folder(self, artifact: Artifact) -> Path:
        coming = self._coming.pop((artifact.kind, artifact.key), None)
        return coming.result() if coming else self._fetch(artifact)

    def ahead(self, task: Task | None) -> None:
        """Fetch in the background what the task needs; what is on this host already is found at once."""
        if task is None or not self._fetches_ahead:
            return
        for answer in (self._made.exports.get(task.export), self._made.binaries.get(task.binary)):
            if isinstance(answer, Artifact):
                at = (answer.kind, answer.key)
                if at not in self._coming:
                    self._coming[at] = self._pool.submit(self._fetch, answer)

    def _fetch(self, artifact: Artifact) -> Path:
        return artifacts.fetch(self._place.root, artifact, self._place.cache)
