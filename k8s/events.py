"""Kubernetes Events: what `kubectl describe sweep` tells its user, each piece of news once.

An Event's name is made from what it says, so that it is the same from whichever controller and however
often it is told; the server keeps one (for an hour).
"""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import UTC, datetime

from k8s.actions import Event
from k8s.api import Api, Object
from k8s.api_errors import AlreadyExists, ApiError
from k8s.resources import EVENTS, SWEEPS

log = logging.getLogger(__name__)

CONTROLLER = "aicsweep.dev/controller"
_MAX_NOTE = 1024
# As long as the server keeps an Event by default.
_REMEMBER_S = 3600.0
_MAX_REMEMBERED = 4096


def event_manifest(sweep: Object, event: Event, *, identity: str, now: datetime) -> Object:
    """Pure. `event` about `sweep`."""
    metadata = sweep["metadata"]
    said = "\n".join(
        (metadata["uid"], str(metadata.get("generation")), event.type, event.reason, event.message)
    )
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {
            "namespace": metadata["namespace"],
            "name": f"{metadata['name']}.{hashlib.sha256(said.encode()).hexdigest()[:16]}",
        },
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": event.type,
        "reason": event.reason,
        "note": event.message[:_MAX_NOTE],
        "action": "Reconcile",
        "reportingController": CONTROLLER,
        "reportingInstance": identity[:128],
        "regarding": {
            "apiVersion": SWEEPS.api_version,
            "kind": SWEEPS.kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }


class Teller:
    """Tells events, as far as that is possible: nothing depends on them."""

    def __init__(self, api: Api, identity: str) -> None:
        self._api, self._identity = api, identity
        # Name -> until when it needs no request, of `time.monotonic`.
        self._told: dict[str, float] = {}

    async def tell(self, sweep: Object, event: Event) -> None:
        manifest = event_manifest(sweep, event, identity=self._identity, now=datetime.now(UTC))
        name = manifest["metadata"]["name"]
        if self._told.get(name, 0.0) > time.monotonic():
            return
        try:
            await self._api.create(EVENTS, manifest)
        except AlreadyExists:
            pass
        except ApiError as error:
            log.warning("event not told: %s", error)
            return
        self._told.pop(name, None)
        self._told[name] = time.monotonic() + _REMEMBER_S
        if len(self._told) > _MAX_REMEMBERED:
            del self._told[next(iter(self._told))]
