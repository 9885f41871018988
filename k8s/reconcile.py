"""One pass over one Sweep: the only place where the controller changes the cluster.

    caches, pods, nodes --> observe --> decide --> act in order --> write the status once --> tell events

Safe to cut off between any two requests and to begin again from old news: a child's name is a function of
what it is for, so that creating it twice finds the first one; what is deleted or written is named with
its uid; and the answer to each write goes into the cache, so that the next pass knows of it. No list of
expected events has to be kept for that (as Kubernetes' own controllers do, whose children's names are random).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from k8s import names, prune
from k8s.actions import Action, Create, Decision, Delete, Event, Patch
from k8s.api import Api, Object
from k8s.api_errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from k8s.child import Defaults
from k8s.decide import decide
from k8s.draft import PROGRESSING, TERMINAL, Draft
from k8s.events import Teller
from k8s.observe import Observed, device_nodes, observe, pods_wanted
from k8s.resources import JOBS, NODES, PODS, SWEEPS
from k8s.watch import Cache, Key, key_of
from runner.errors import AicsweepError, BadInput
from runner.sweepfile import sweep_from_object

Decide = Callable[[Mapping[str, Any], Observed, datetime, Defaults], Decision]

# A uid in a selector is 40 characters of a request line, of which servers and proxies take 8 KiB.
_JOBS_A_REQUEST = 50
_NODES_FRESH_S = 10.0


class NotLeading(AicsweepError):
    """Another controller may act by now: this pass is not for us."""


class Blocked(AicsweepError):
    """The cluster refuses an action until a person does something; told in the Sweep's status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Reconciler:
    """Passes over Sweeps. `may_act` is asked before each write."""

    def __init__(
        self,
        api: Api,
        sweeps: Cache,
        jobs: Cache,
        teller: Teller,
        defaults: Defaults,
        may_act: Callable[[], bool],
        *,
        decide: Decide = decide,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api, self._sweeps, self._jobs, self._teller = api, sweeps, jobs, teller
        self._defaults, self._may_act, self._decide, self._now = defaults, may_act, decide, now
        # Pods of ended Jobs by the Job's uid, by the Sweep's key: they don't change, and are small.
        self._ended: dict[Key, dict[str, list[Object]]] = {}
        self._nodes: tuple[float, list[Object]] = (float("-inf"), [])

    async def __call__(self, key: Key) -> float | None:
        """Seconds until the Sweep wants another look, or None. Raises AicsweepError: try again later."""
        sweep = self._sweeps.get(key)
        if sweep is None:
            self._ended.pop(key, None)
            return None
        now = self._now()
        status = dict(sweep.get("status") or {})
        try:
            seen = await self._observe(sweep)
            decision = self._decide(sweep, seen, now, self._defaults)
            status = decision.status
            for action in decision.actions:
                await self._act(sweep, action)
        except Blocked as error:
            await self._write_status(sweep, blocked_status(sweep, status, error, now))
            await self._teller.tell(sweep, Event("Warning", error.reason, error.message))
            raise
        await self._write_status(sweep, decision.status)
        for event in decision.events:
            await self._teller.tell(sweep, event)
        return decision.requeue_s

    # -- what is there

    async def _observe(self, sweep: Object) -> Observed:
        jobs = self._jobs.owned_by(sweep["metadata"]["uid"])
        pods = await self._pods(sweep, jobs)
        return observe(jobs, pods, await self._device_nodes(sweep))

    async def _pods(self, sweep: Object, jobs: Sequence[Object]) -> list[Object]:
        """Pods of the Jobs that a decision wants to know more of. By the uid of their Job: a Job that is run
        again has the name of the one before, whose pods may still be there."""
        wanted = set(pods_wanted(jobs))
        by_uid = {job["metadata"]["uid"]: job for job in jobs if job["metadata"]["name"] in wanted}
        known = self._ended.get(key_of(sweep), {})
        found = {uid: known[uid] for uid in by_uid if uid in known}
        unknown = [uid for uid in by_uid if uid not in found]
        for uids in _chunks(unknown, _JOBS_A_REQUEST):
            selector = f"batch.kubernetes.io/controller-uid in ({','.join(uids)})"
            pages = self._api.pages(PODS, namespace=sweep["metadata"]["namespace"], selector=selector)
            async for page, _ in pages:
                for pod in page:
                    uid = pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"]
                    found.setdefault(uid, []).append(prune.pod(pod))
        self._ended[key_of(sweep)] = {uid: pods for uid, pods in found.items() if _has_ended(by_uid[uid])}
        return [pod for pods in found.values() for pod in pods]

    async def _device_nodes(self, sweep: Object) -> dict[str, int] | None:
        """Nodes with devices, for a Sweep that is still to be measured on each of them."""
        if sweep["spec"].get("placement", "any") == "any" or _is_over(sweep):
            return None
        try:
            pods = self._defaults.completed(sweep_from_object(sweep)).spec.pods
        except BadInput:
            return None
        read_at, nodes = self._nodes
        if time.monotonic() - read_at > _NODES_FRESH_S:
            try:
                nodes = [prune.node(node) async for page, _ in self._api.pages(NODES) for node in page]
            except Forbidden as error:
                placement = sweep["spec"]["placement"]
                raise Blocked("Refused", f"placement {placement} must list nodes: {error.message}") from error
            self._nodes = time.monotonic(), nodes
        return device_nodes(nodes, pods.device_resource, pods.measure_node_selector)

    # -- what is done

    async def _act(self, sweep: Object, action: Action) -> None:
        self._fence()
        namespace = sweep["metadata"]["namespace"]
        try:
            match action:
                case Create(manifest):
                    self._jobs.put(await self._create(sweep, manifest))
                case Delete(name, uid, foreground):
                    how = "Foreground" if foreground else "Background"
                    await self._api.delete(JOBS, namespace, name, uid, how)
                case Patch(name, body):
                    self._jobs.put(await self._api.patch(JOBS, namespace, name, body))
        except (Forbidden, Invalid) as error:
            raise Blocked("Refused", error.message) from error
        except (NotFound, Conflict):
            if not isinstance(action, Delete | Patch):
                raise
            # It is gone, or another one by now: what was decided about it is void.

    async def _create(self, sweep: Object, manifest: Object) -> Object:
        try:
            return await self._api.create(JOBS, manifest)
        except AlreadyExists:
            meta = manifest["metadata"]
            found = await self._api.get(JOBS, meta["namespace"], meta["name"])
        owners = found["metadata"].get("ownerReferences", ())
        if not any(owner["uid"] == sweep["metadata"]["uid"] for owner in owners):
            text = f"Job {meta['name']} is there and is not of this Sweep: delete it, or rename the Sweep"
            raise Blocked("NameTaken", text)
        if names.MANAGED_BY not in found["metadata"].get("labels", {}):
            raise Blocked("LabelsLost", f"Job {meta['name']} has lost its labels: delete it, it is made anew")
        return found

    async def _write_status(self, sweep: Object, status: Object) -> None:
        """The whole status, if anything of it changed."""
        if status == (sweep.get("status") or {}):
            return
        self._fence()
        try:
            written = await self._api.replace_status(SWEEPS, sweep, status)
        except NotFound:
            # Deleted meanwhile; its children go with it.
            return
        self._sweeps.put(written)

    def _fence(self) -> None:
        if not self._may_act():
            raise NotLeading("not the leader any more")


def blocked_status(sweep: Object, status: Object, why: Blocked, now: datetime) -> Object:
    """Pure. The decided `status` of a pass that could not do all it had decided."""
    drafted = Draft({"metadata": sweep["metadata"], "status": sweep.get("status")}, now)
    drafted.condition(PROGRESSING, False, why.reason, why.message)
    drafted.text("waiting", why.message)
    condition = next(c for c in drafted.status["conditions"] if c["type"] == PROGRESSING)
    others = [c for c in status.get("conditions", ()) if c["type"] != PROGRESSING]
    return {**status, "waiting": drafted.status["waiting"], "conditions": [*others, condition]}


def _is_over(sweep: Object) -> bool:
    conditions = (sweep.get("status") or {}).get("conditions", ())
    return any(c["type"] in TERMINAL and c["status"] == "True" for c in conditions)


def _has_ended(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def _chunks(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))
