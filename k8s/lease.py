"""Who acts, of several controllers: the one whose name stands in the Lease.

    controller: acquire -> (act while `held`, keep) -> lost: stop acting, acquire again | stop: release

Clocks of different hosts are never compared: a holder has lost when its Lease did not change for its
whole duration, measured here. The holder itself stops after two thirds of that, counted from before the
request that last renewed it, so it has stopped before another one may begin.
(The client library's election compares wall clocks, which jump, and does not release.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from k8s.api import Api, Object
from k8s.api_errors import AlreadyExists, ApiError, Conflict, NotFound
from k8s.resources import LEASES

log = logging.getLogger(__name__)


class Lease:
    """The right to act, under one name in one namespace."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._namespace, self._name, self._identity = api, namespace, name, identity
        self._lease_s, self._clock = lease_s, clock
        self._deadline_s, self._pause_s = lease_s * 2 / 3, lease_s / 4
        self._until = float("-inf")
        # As this process wrote it last; None when it must be read first.
        self._ours: Object | None = None
        # Which version was seen last, and since when.
        self._version, self._seen_at = "", clock()

    def held(self) -> bool:
        """Asked before every write: False also when this process was stopped for a while and just woke up."""
        return self._clock() < self._until

    async def acquire(self) -> None:
        """Returns once it is ours; an API server that is away is waited for."""
        while not await self.attempt():
            await asyncio.sleep(self._pause_s)
        log.info("leading", extra={"identity": self._identity})

    async def keep(self) -> None:
        """Renews it in time; returns when it is lost."""
        pause_s = self._pause_s
        while self.held():
            left_s = self._until - self._clock()
            with suppress(TimeoutError):
                # A request without an answer must not hide that time is up.
                async with asyncio.timeout(left_s):
                    await asyncio.sleep(min(pause_s, left_s))
                    renewed = await self.attempt()
                    pause_s = self._pause_s if renewed else min(1.0, self._pause_s)
        log.warning("no longer leading", extra={"identity": self._identity})

    async def release(self) -> None:
        """Lets another one act at once; what can't be released runs out by itself."""
        self._until, self._ours = float("-inf"), None
        try:
            lease = await self._api.get(LEASES, self._namespace, self._name)
            if lease.get("spec", {}).get("holderIdentity") == self._identity:
                body = {
                    "metadata": self._at(lease),
                    "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
                }
                await self._api.patch(LEASES, self._namespace, self._name, body)
        except ApiError as error:
            log.warning("lease not released: %s", error)

    async def attempt(self) -> bool:
        """One try to take or renew it. False: another one holds it, or there is no telling."""
        started = self._clock()
        try:
            await self._write()
        except (Conflict, AlreadyExists):
            # Somebody else wrote it: read it the next time.
            self._ours = None
            return False
        except ApiError as error:
            self._ours = None
            log.warning("%s", error)
            return False
        if self._ours is None:
            self._until = float("-inf")
            return False
        self._until = started + self._deadline_s
        return True

    async def _write(self) -> None:
        """Makes, takes or renews it: `_ours`; that is None if another one holds it."""
        try:
            lease = self._ours or await self._api.get(LEASES, self._namespace, self._name)
            self._ours = None
            if self._may_take(lease):
                body = {"metadata": self._at(lease), "spec": self._spec(lease.get("spec") or {})}
                self._ours = await self._api.patch(LEASES, self._namespace, self._name, body)
        except NotFound:
            metadata = {"namespace": self._namespace, "name": self._name}
            manifest = {
                "apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": self._spec({})
            }  # fmt: skip
            self._ours = await self._api.create(LEASES, manifest)

    def _may_take(self, lease: Object) -> bool:
        if (version := lease["metadata"]["resourceVersion"]) != self._version:
            self._version, self._seen_at = version, self._clock()
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        return self._clock() - self._seen_at >= (spec.get("leaseDurationSeconds") or self._lease_s)

    def _at(self, lease: Object) -> Object:
        """Makes a patch fail if the Lease was written since."""
        return {"resourceVersion": lease["metadata"]["resourceVersion"]}

    def _spec(self, before: Object) -> Object:
        # For people: nobody decides by these times.
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            "holderIdentity": self._identity, "leaseDurationSeconds": max(1, round(self._lease_s)), "renewTime": now
        }  # fmt: skip
        if before.get("holderIdentity") == self._identity:
            return spec
        return {**spec, "acquireTime": now, "leaseTransitions": (before.get("leaseTransitions") or 0) + 1}
