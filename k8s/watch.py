"""What the controller knows of the cluster: a cache for each kind of object, kept true by a reflector.

    API server --list in pages, then watch--> Reflector --> Cache --> reconcile reads
                                                 `--> on_change(object) --> work (queue)

An event says that a key is worth a look, nothing more. The reflector never ends and trusts no watch that
says nothing: the server sends a bookmark a minute, so a silent one is broken somewhere on the way.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from k8s.api import Api, Object, Resource
from k8s.api_errors import ApiError, Gone

log = logging.getLogger(__name__)

# (namespace, name)
Key = tuple[str, str]

_PAUSE_S = 0.5
_MAX_PAUSE_S = 15.0


class Cache:
    """Pruned objects by key, those with an owner also by its uid. Never older than what was put last."""

    def __init__(self, prune: Callable[[Object], Object]) -> None:
        self._prune = prune
        self._objects: dict[Key, Object] = {}
        self._owned: dict[str, dict[Key, None]] = {}
        self._put_since_list: dict[Key, Object] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(self._objects.values())

    def get(self, key: Key) -> Object | None:
        return self._objects.get(key)

    def owned_by(self, uid: str) -> list[Object]:
        """In the order of their names."""
        return [self._objects[key] for key in sorted(self._owned.get(uid, ()))]

    def put(self, found: Object) -> None:
        """What the server answered to a write: reads its own writes before the watch brings them."""
        self._put_since_list[key_of(found)] = self._store(found)

    def seen(self, event: str, found: Object) -> None:
        """What the watch brought; older news than what is here is none."""
        key = key_of(found)
        here = self._objects.get(key)
        if here is not None and _version(found) < _version(here):
            return
        if event == "DELETED":
            self._remove(key)
        else:
            self._store(found)

    def begin_list(self) -> None:
        self._put_since_list.clear()

    def replace(self, pruned: list[Object], version: str) -> list[Object]:
        """All objects as they were at `version`; newer ones put meanwhile stay. Those that differ now, or are gone.

        Nothing else is kept because it looks newer: versions go back when etcd is restored from a copy.
        """
        before = self._objects
        newer = [found for found in self._put_since_list.values() if _version(found) > _number(version)]
        self._objects, self._owned = {}, {}
        for found in (*pruned, *newer):
            self._index(found)
        gone = [found for key, found in before.items() if key not in self._objects]
        return gone + [found for key, found in self._objects.items() if not _same(found, before.get(key))]

    def pruned(self, found: Object) -> Object:
        return self._prune(found)

    def _store(self, found: Object) -> Object:
        pruned = self._prune(found)
        self._remove(key_of(found))
        self._index(pruned)
        return pruned

    def _index(self, pruned: Object) -> None:
        key = key_of(pruned)
        self._objects[key] = pruned
        for owner in pruned["metadata"].get("ownerReferences", ()):
            self._owned.setdefault(owner["uid"], {})[key] = None

    def _remove(self, key: Key) -> None:
        gone = self._objects.pop(key, None)
        for owner in gone["metadata"].get("ownerReferences", ()) if gone else ():
            keys = self._owned[owner["uid"]]
            del keys[key]
            if not keys:
                del self._owned[owner["uid"]]


class Reflector:
    """Keeps a cache like the server's objects of one kind, for as long as it runs."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        cache: Cache,
        on_change: Callable[[Object], None],
        *,
        silence_s: float,
        namespace: str = "",
        selector: str = "",
        on_restart: Callable[[str, str], None] = lambda resource, why: None,
    ) -> None:
        self._api, self._resource, self._cache = api, resource, cache
        self._on_change, self._on_restart = on_change, on_restart
        self._silence_s = silence_s
        self._namespace, self._selector = namespace, selector
        self._version = ""
        self._events = 0
        self.synced = asyncio.Event()
        # Of `time.monotonic`: the last sign of life from the server.
        self.fresh_at = float("-inf")

    async def run(self) -> NoReturn:
        """Until cancelled; nothing that the server does or leaves undone ends it."""
        failures = 0
        while True:
            why, wait_s, events = "end", 0.0, self._events
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except ApiError as error:
                why, wait_s = type(error).__name__, error.retry_after_s
                if isinstance(error, Gone):
                    self._version = ""
                log.warning("%s", error)
            # A watch that ends without a word each time is a failure too.
            failures = 0 if self._events > events else failures + 1
            self._on_restart(self._resource.plural, why)
            await asyncio.sleep(pause_s(failures, wait_s))

    async def _list(self) -> None:
        self._cache.begin_list()
        pruned: list[Object] = []
        listed_at = ""
        pages = self._api.pages(self._resource, namespace=self._namespace, selector=self._selector)
        async for page, version in pages:
            pruned.extend(self._cache.pruned(found) for found in page)
            listed_at = version
        self._version = listed_at
        for found in self._cache.replace(pruned, listed_at):
            self._on_change(found)
        self.fresh_at = time.monotonic()
        self.synced.set()

    async def _watch(self) -> None:
        async with self._api.watch(
            self._resource,
            self._version,
            silence_s=self._silence_s,
            namespace=self._namespace,
            selector=self._selector,
        ) as events:
            self.fresh_at = time.monotonic()
            async for event, found in events:
                self.fresh_at = time.monotonic()
                self._events += 1
                if event != "BOOKMARK":
                    self._cache.seen(event, found)
                    self._on_change(found)
                self._version = found["metadata"]["resourceVersion"]


def key_of(found: Object) -> Key:
    metadata = found["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def pause_s(failures: int, asked_s: float = 0.0) -> float:
    """Before the next attempt: what the server asked for, and any time up to a limit that doubles with each
    failure, so that many don't come at once."""
    return asked_s + random.uniform(0, min(_MAX_PAUSE_S, _PAUSE_S * 2 ** min(failures, 16)))


def _version(found: Object) -> int:
    return _number(found["metadata"].get("resourceVersion", ""))


def _number(version: str) -> int:
    """Versions of one kind of object are numbers that grow (KEP-5504; etcd's revisions before it)."""
    return int(version) if version.isdecimal() else 0


def _same(one: Object, other: Object | None) -> bool:
    if other is None:
        return False
    return all(one["metadata"][key] == other["metadata"][key] for key in ("uid", "resourceVersion"))
