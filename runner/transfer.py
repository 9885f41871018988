"""Objects of a store that are many, or too large to be held in memory.

    store --`get_many`--> results, a few read ahead
          --`stream`--> pieces --`download`--> a file

What goes there from a file is `Store.put`.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from runner.store import PART_BYTES, Store

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore

# Threads that read ahead in `get_many`; more were no faster against a server on this host (2 cores).
_READERS = 16


def get_many(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Key and bytes of each object, in the order asked for; a few are read ahead. Raises NotFound."""
    if not store.is_remote:
        yield from ((key, store.get(key)) for key in keys)
        return
    with ThreadPoolExecutor(_READERS, thread_name_prefix="store-read") as pool:
        ahead: deque[tuple[str, Future[bytes]]] = deque()
        try:
            for key in keys:
                ahead.append((key, pool.submit(store.get, key)))
                if len(ahead) > 2 * _READERS:
                    first, read = ahead.popleft()
                    yield first, read.result()
            while ahead:
                first, read = ahead.popleft()
                yield first, read.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def download(store: Store, key: str, path: Path) -> None:
    """Write an object of any size to the file `path`, whole or not at all. Raises NotFound, and OSError where it
    can't be written."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            for part in stream(store, key):
                file.write(part)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def stream(store: Store, key: str) -> Iterator[bytes]:
    """An object's bytes in pieces, whatever its size; goes on where it was cut off. Raises NotFound."""
    import obstore

    done, parts = 0, None

    def next_part(client: ObjectStore, path: str) -> bytes | None:
        nonlocal parts
        if parts is None:
            options: GetOptions = {"range": {"offset": done}} if done else {}
            parts = iter(obstore.get(client, path, options=options).stream(PART_BYTES))
        try:
            part = next(parts, None)
        except BaseException:
            parts = None
            raise
        return None if part is None else bytes(part)

    while (part := store.request("read", key, next_part)) is not None:
        done += len(part)
        yield part
