"""The object store: what is kept lies here and nowhere else. A folder, an S3 bucket and memory look the same.

    plan, engine, merge, artifacts --> Store --(store_places)--> obstore --> folder | S3 | memory
                           transfer --'   what is large or many
                        store_check --'   what must be so before a run

What every place guarantees:
  * an object is there as a whole or not at all; a killed writer leaves nothing that is listed or read;
  * `put_new` never overwrites: of any number of writers one is told True;
  * what `put` returned for, later reads and lists see.
A folder keeps this by writing `KEY#...` beside the object and renaming (or linking) it, so a killed
writer's `KEY#...` stays as litter. It is not fsynced: after a power cut or kernel crash an object may
be missing or empty (artefacts and tables carry digests), after a killed process never. A bucket may
keep parts of killed uploads that are charged for but not visible: give it a lifecycle rule that
aborts incomplete multipart uploads.

Not for use across fork(): obstore's threads don't survive it. Use spawn or a subprocess.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from runner.bucket import Bucket
from runner.errors import StoreError
from runner.folder import UNFINISHED, Folder, read_file
from runner.store_errors import NotFound, Where, translate
from runner.store_places import Place, is_key, place_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

__all__ = ["Listed", "NotFound", "Store", "is_key", "open_store"]

# S3 allows 10,000 parts, so 80 GiB an object; _PARTS of them are in memory and under way at once.
PART_BYTES = 8 * 1024 * 1024
_PARTS = 4


class Listed(NamedTuple):
    """An object as it is listed; `modified` is when the place got it, in UTC."""

    key: str
    size_bytes: int
    modified: datetime


def open_store(url: str) -> Store:
    """The store at a folder (`runs/today`, `~/runs`, `file:///data/runs`), `s3://BUCKET/PREFIX`, or `memory:`
    (a new, empty one each time). Nothing is read, made or connected yet: that is `store_check`.

    Raises BadInput for any other URL.
    """
    place, prefix = place_of(url)
    return Store(place, prefix)


class Store:
    """Objects under keys such as `plans/ab12.json`: segments of [A-Za-z0-9._-], no `.` or `..`.

    Any other key is a ValueError. Because a folder must be able to hold it, a key can't be the
    prefix of another (`a` and `a/b`). Methods are safe to call from several threads and raise
    StoreError where the place fails.
    """

    def __init__(self, place: Place, prefix: str = "") -> None:
        self._place = place
        self._prefix = prefix

    @property
    def url(self) -> str:
        """What people call it; holds no credentials."""
        return f"{self._place.url.rstrip('/')}/{self._prefix}" if self._prefix else self._place.url

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def at(self, prefix: str) -> Store:
        """The part of the store below `prefix`, as a store."""
        return Store(self._place, self._path(prefix))

    def get(self, key: str) -> bytes:
        """An object's bytes. Raises NotFound."""
        path, folder = self._path(key), self._place.folder
        if folder is not None:
            with self._errors("read", key):
                # Nine times obstore's rate for small files: no way through another thread. And no Path
                # of each: they cost as much as reading.
                return read_file(os.path.join(folder, path))
        return self.request("read", key, read_bytes)

    def put(self, key: str, data: bytes | Path) -> None:
        """Write an object, in place of any of that key: bytes, or what is in a file, of any size."""
        import obstore

        if isinstance(data, Path) and not data.is_file():
            raise StoreError(f"can't upload {data} to {Where(self.url, key)}: there is no such file")
        if isinstance(self._place, Folder):
            with self._errors("write", key):
                self._place.write(self._path(key), data, new=False)
            return

        def write(client: ObjectStore, path: str) -> None:
            obstore.put(client, path, data, chunk_size=PART_BYTES, max_concurrency=_PARTS)

        self.request("write", key, write)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; False if it was, and nothing is changed.

        Where the answer to a write was lost and it was sent again, False can mean our own first
        try: compare contents if that matters. On S3 False can also be a writer that fails later.
        """
        if isinstance(self._place, Folder):
            with self._errors("write", key):
                return self._place.write(self._path(key), data, new=True)
        return self.request("write", key, lambda client, path: write_new(client, path, data))

    def keep(self, key: str, data: bytes) -> None:
        """`put_new` for a key that is this writer's own: taken is fine if it is by the same bytes, as after a
        write whose answer was lost. Raises StoreError where it is not."""
        if not self.put_new(key, data) and self.get(key) != data:
            raise StoreError(
                f"{self.url}/{key} is there already, and is not ours",
                remedy="Two writers have one name: AICSWEEP_POD must be the pod's own uid.",
            )

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        import obstore

        local = self.local_path(key)
        if local is not None:
            with self._errors("read", key):
                return local.is_file()
        try:
            self.request("read", key, obstore.head)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> list[Listed]:
        """Every object below `prefix` (a whole segment), sorted by key, but for files not ours."""
        import obstore

        skipped = len(self._prefix) + 1 if self._prefix else 0
        listed: dict[str, Listed] = {}

        def go_on(client: ObjectStore, path: str) -> None:
            """From the last key on: of a store in trouble, twenty pages in a row may never come."""
            for some in obstore.list(client, path, offset=max(listed, default=None), chunk_size=1000):
                for item in some:
                    if is_key(at := item["path"]):
                        listed[at] = Listed(at[skipped:], item["size"], item["last_modified"])

        self.request("list", prefix, go_on)
        return sorted(listed.values(), key=lambda item: item.key)

    def folders(self, prefix: str = "") -> builtins.list[str]:
        """Names of the folders directly below `prefix`, sorted: first segments of the keys that go on."""
        import obstore

        def folders_there(client: ObjectStore, path: str) -> builtins.list[str]:
            found = obstore.list_with_delimiter(client, path)["common_prefixes"]
            # A folder of a file system stays when it holds no object, as after a killed writer.
            return [
                folder
                for folder in found
                if self._place.folder is None
                or any(is_key(item["path"]) for some in obstore.list(client, folder) for item in some)
            ]

        folders = self.request("list", prefix, folders_there)
        names = (folder.rstrip("/").rsplit("/", 1)[-1] for folder in folders)
        return sorted(name for name in names if is_key(name))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects in bulk, in no order, or what `litter` listed; one that is gone is no error. For `collect`
        alone: nothing else needs the right to delete."""
        import obstore

        keys = list(keys)
        if not keys:
            return
        with self._errors("delete", keys[0] if len(keys) == 1 else ""):
            if self._place.folder is None:
                obstore.delete(self._place.connect(writing=True), [self._path(key) for key in keys])
                return
            for key in keys:
                # What was listed as litter is no key.
                name, mark, rest = key.partition(UNFINISHED)
                local = self._place.folder / self._path(name)
                local.with_name(local.name + mark + rest).unlink(missing_ok=True)

    def litter(self) -> builtins.list[Listed]:
        """What killed writers left in a folder, `KEY#...`; none elsewhere (see above)."""
        if not isinstance(self._place, Folder):
            return []
        with self._errors("list", ""):
            return [
                Listed(name, state.st_size, datetime.fromtimestamp(state.st_mtime, UTC))
                for name, state in self._place.unfinished(self._prefix)
                if is_key(name.partition(UNFINISHED)[0])
            ]

    @property
    def endpoint(self) -> str:
        """S3's endpoint, as boto3 finds it; "" of other places. Raises StoreError."""
        if self.is_remote and not self._place.endpoint:
            self._place.connect(writing=False)
        return self._place.endpoint

    @property
    def is_remote(self) -> bool:
        """Whether a network lies between."""
        return self._place.patience is not None

    def tell(self, say: Callable[[str], object]) -> None:
        """From now on `say` is told when the store is away and waited for, and when it is back."""
        if self._place.patience is not None:
            self._place.patience.say = say

    def link(self, key: str, seconds: int) -> str | None:
        """A URL under which whoever has it may read the object for `seconds`; None of a place that has no such."""
        if not isinstance(self._place, Bucket):
            return None
        with self._errors("read", key):
            return self._place.link(self._path(key), seconds)

    def local_path(self, key: str) -> Path | None:
        """Where the object (or folder of objects) lies on this host; None unless the store is a folder.

        For reading in place: never write there.
        """
        path = self._path(key)
        folder = self._place.folder
        return None if folder is None else folder / path

    def request(
        self,
        doing: Literal["read", "write", "list"],
        key: str,
        work: Callable[[ObjectStore, str], T],
        *,
        hurried: bool = False,
    ) -> T:
        """What `work` asks of obstore's client about the object or, for `list`, the folder of that path; asked
        again while the place is away, or if `hurried` once, for seconds at most."""
        path = self._prefix if doing == "list" and not key else self._path(key)

        def once() -> T:
            with self._errors(doing, key):
                return work(self._place.connect(writing=doing == "write", probing=hurried), path)

        patience = self._place.patience
        return once() if patience is None else patience.ask(once, waiting=not hurried)

    def _path(self, key: str) -> str:
        """The key from the place's root on."""
        if not is_key(key):
            raise ValueError(f"not a store key: {key!r}")
        return f"{self._prefix}/{key}" if self._prefix else key

    @contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        """The border: nothing foreign gets past it."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            raise translate(error, doing, Where(self.url, key, self._place.endpoint)) from error


def read_bytes(client: ObjectStore, path: str) -> bytes:
    """All of an object, for `Store.request`."""
    import obstore

    return obstore.get(client, path).bytes().to_bytes()


def write_new(client: ObjectStore, path: str, data: bytes) -> bool:
    """Write an object if there is none, for `Store.request`; whether it did."""
    import obstore
    from obstore.exceptions import AlreadyExistsError

    try:
        obstore.put(client, path, data, mode="create")
    except AlreadyExistsError:
        return False
    return True
