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
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import orjson

from k8s.api import Api, Object
from k8s.api_errors import ApiError, Gone
from k8s.resources import Resource

log = logging.getLogger(__name__)

# (namespace, name)
Key = tuple[str, str]

_PAUSE_S = 0.5
_MAX_PAUSE_S = 15.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """One object: as JSON it takes a quarter of the memory that dicts do, and a pass reads few of them."""

    uid: str
    version: str
    owners: tuple[str, ...]
    text: bytes

    def read(self) -> Object:
        found: Object = orjson.loads(self.text)
        return found

    def same(self, other: _Kept | None) -> bool:
        return other is not None and (self.uid, self.version) == (other.uid, other.version)


class Cache:
    """Pruned objects by key, those with an owner also by its uid. Whoever reads one gets a copy."""

    def __init__(self, prune: Callable[[Object], Object]) -> None:
        self._prune = prune
        self._objects: dict[Key, _Kept] = {}
        self._owned: dict[str, dict[Key, None]] = {}
        self._put_since_list: dict[Key, _Kept] = {}
        # By namespace, "" for all: up to which version list and watch have brought everything.
        self._seen_to: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return (kept.read() for kept in self._objects.values())

    def keys(self) -> list[Key]:
        return list(self._objects)

    def get(self, key: Key) -> Object | None:
        kept = self._objects.get(key)
        return kept.read() if kept else None

    def owned_by(self, uid: str) -> list[Object]:
        """In the order of their names."""
        return [self._objects[key].read() for key in sorted(self._owned.get(uid, ()))]

    def put(self, found: Object) -> None:
        """What the server answered to a write: reads its own writes before the watch brings them. An answer that
        comes after that is none: the object may have changed again, or be gone, and no more news would come."""
        key, kept = key_of(found), self._kept(found)
        if _number(kept.version) <= max(self._seen_to.get(key[0], 0), self._seen_to.get("", 0)):
            return
        self._put_since_list[key] = kept
        self._store(key, kept)

    def seen(self, event: str, found: Object) -> None:
        """What the watch brought; older news than what is here is none."""
        key = key_of(found)
        self._seen_to[key[0]] = max(self._seen_to.get(key[0], 0), _number(_version(found)))
        here = self._objects.get(key)
        if here is not None and _number(_version(found)) < _number(here.version):
            return
        if event == "DELETED":
            self._remove(key)
        else:
            self._store(key, self._kept(found))

    async def replace(
        self, pages: AsyncIterator[tuple[list[Object], str]], namespace: str = ""
    ) -> tuple[Iterator[Object], str]:
        """All objects of `namespace` (of all, if empty) as a list has them; newer ones put meanwhile stay. Those
        that differ now or are gone, one at a time, and the list's version.

        Nothing else is kept because it looks newer: versions go back when etcd is restored from a copy.
        """

        def within(kept: dict[Key, _Kept], yes: bool = True) -> dict[Key, _Kept]:
            return {key: value for key, value in kept.items() if (namespace in ("", key[0])) is yes}

        self._put_since_list = within(self._put_since_list, False)
        listed: dict[Key, _Kept] = {}
        listed_at = ""
        async for page, version in pages:
            listed.update((key_of(found), self._kept(found)) for found in page)
            listed_at = version
            # Before the next one comes: two pages at once are twice the memory.
            page.clear()
        for key, kept in within(self._put_since_list).items():
            if _number(kept.version) > _number(listed_at):
                listed[key] = kept
        before, others = within(self._objects), within(self._objects, False)
        self._objects, self._owned = {}, {}
        if not namespace:
            self._seen_to.clear()
        self._seen_to[namespace] = _number(listed_at)
        for key, kept in (*others.items(), *listed.items()):
            self._store(key, kept)
        gone = [kept for key, kept in before.items() if key not in listed]
        new = [kept for key, kept in listed.items() if not kept.same(before.get(key))]
        return (kept.read() for kept in (*gone, *new)), listed_at

    def _kept(self, found: Object) -> _Kept:
        pruned = self._prune(found)
        owners = tuple(owner["uid"] for owner in pruned["metadata"].get("ownerReferences", ()))
        # orjson's own result keeps a buffer of 4 KiB, whatever is in it.
        text = bytes(memoryview(orjson.dumps(pruned)))
        return _Kept(pruned["metadata"]["uid"], _version(pruned), owners, text)

    def _store(self, key: Key, kept: _Kept) -> None:
        self._remove(key)
        self._objects[key] = kept
        for uid in kept.owners:
            self._owned.setdefault(uid, {})[key] = None

    def _remove(self, key: Key) -> None:
        gone = self._objects.pop(key, None)
        for uid in gone.owners if gone else ():
            keys = self._owned[uid]
            del keys[key]
            if not keys:
                del self._owned[uid]


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
        pages = self._api.pages(self._resource, namespace=self._namespace, selector=self._selector)
        changed, self._version = await self._cache.replace(pages, self._namespace)
        for found in changed:
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


def _version(found: Object) -> str:
    return str(found["metadata"].get("resourceVersion", ""))


def _number(version: str) -> int:
    """Versions of one kind of object are numbers that grow (KEP-5504; etcd's revisions before it)."""
    return int(version) if version.isdecimal() else 0
