"""A Sweep's table for the plugin: from the store, or, where that can't be reached from here, through a pod.

    Sweep, Jobs --(told)--> Place --(here | short_pod: `aicsweep snapshot`)--> Snapshot

A Sweep that ended has its published table; of one that runs, what is in the store is merged on the spot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from k8s import names, short_pod
from k8s.access import Access
from k8s.api import Object
from k8s.told import Place, place_of, template
from runner import store_check
from runner.errors import StoreError
from runner.snapshot import Snapshot, from_lines, take
from runner.store import open_store

Via = Literal["auto", "here", "pod"]


async def read(
    access: Access,
    sweep: Object,
    *,
    via: Via = "auto",
    image: str = "",
    limit_s: float = 120,
    say: Callable[[str], None],
) -> Snapshot:
    """The table as it is by now. `auto` tries from here first. Raises StoreError."""
    jobs = await access.jobs(sweep)
    place = place_of(sweep, jobs)
    why = ""
    if via != "pod":
        try:
            return await asyncio.to_thread(_here, place)
        except StoreError as error:
            if via == "here":
                raise
            why = error.message
            say(f"from here: {why}; reading through a pod of namespace {access.namespace}")
    return await _through_a_pod(access, sweep, jobs, place, image, limit_s, say, why)


def _here(place: Place) -> Snapshot:
    home = open_store(place.store).at(place.prefix)
    store_check.check_readable(home)
    return take(home, place.digest)


async def _through_a_pod(
    access: Access,
    sweep: Object,
    jobs: Sequence[Mapping[str, Any]],
    place: Place,
    image: str,
    limit_s: float,
    say: Callable[[str], None],
    why: str,
) -> Snapshot:
    args = ["snapshot", place.url, *(["--plan", place.digest] if place.digest else [])]
    pod = template(sweep, [dict(job) for job in jobs], names.MERGE, image, place.store)
    manifest = short_pod.reading(pod, sweep, "table", args, limit_s)
    ended = await short_pod.run(access, manifest, limit_s, say)
    words = f"\n  from here: {why}" if why else ""
    if ended.phase not in ("Succeeded", "Failed"):
        raise StoreError(
            f"the pod that reads {place.url} waits for {ended.waited_for}{words}", remedy=_MORE_TIME
        )
    if ended.phase == "Failed":
        said = ended.log.strip()[-2000:] or ended.waited_for or "nothing"
        raise StoreError(f"the pod that reads {place.url} failed and said: {said}{words}")
    try:
        return from_lines(ended.log.splitlines())
    except ValueError as error:
        raise StoreError(f"the log of the pod that reads {place.url}: {error}", remedy=_LARGE) from error


_MORE_TIME = "--timeout gives it more time"
_LARGE = "kubelets keep 10 MiB of a log; read a larger table where the store can be reached: aicsweep table"
