"""The object store: what is kept lies here and nowhere else. A folder, an S3 bucket and memory look the same.

    plan, engine, merge, artifacts --> Store --(store_places)--> obstore --> folder | S3 | memory

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
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from runner.bucket import Bucket
from runner.errors import StoreError
from runner.folder import UNFINISHED, read_file, write_file
from runner.store_errors import NotFound, Where, translate
from runner.store_places import Place, is_key, place_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

__all__ = ["Listed", "NotFound", "Store", "is_key", "open_store"]

# Threads that read ahead in `get_many`; more were no faster against a server on this host (2 cores).
_READERS = 16
# S3 allows 10,000 parts, so 80 GiB an object; _PARTS of them are in memory and under way at once.
_PART_BYTES = 8 * 1024 * 1024
_PARTS = 4

_PROBE_KEY = ".probe/aicsweep"
_PROBE = b"Written by aicsweep at the start of a run, to see whether it may. Can be deleted.\n"


class Listed(NamedTuple):
    """An object as it is listed; `modified` is when the place got it, in UTC."""

    key: str
    size_bytes: int
    modified: datetime


def open_store(url: str) -> Store:
    """The store at a folder (`runs/today`, `~/runs`, `file:///data/runs`), `s3://BUCKET/PREFIX`, or `memory:`
    (a new, empty one each time). Nothing is read, made or connected yet: that is `check`.

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
        return self._ask("read", key, lambda: self._get(self._reader(), key))

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Key and bytes of each object, in the order asked for; a few are read ahead. Raises NotFound."""
        if self._place.folder is not None:
            yield from ((key, self.get(key)) for key in keys)
            return
        with ThreadPoolExecutor(_READERS, thread_name_prefix="store-read") as pool:
            ahead: deque[tuple[str, Future[bytes]]] = deque()
            try:
                for key in keys:
                    ahead.append((key, pool.submit(self.get, key)))
                    if len(ahead) > 2 * _READERS:
                        first, read = ahead.popleft()
                        yield first, read.result()
                while ahead:
                    first, read = ahead.popleft()
                    yield first, read.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def put(self, key: str, data: bytes) -> None:
        """Write an object, in place of any of that key."""
        import obstore

        path, local = self._path(key), self.local_path(key)

        def write() -> None:
            writer = self._writer()
            if local is not None:
                write_file(local, lambda file: file.write_bytes(data), new=False)
            else:
                obstore.put(writer, path, data, chunk_size=_PART_BYTES, max_concurrency=_PARTS)

        self._ask("write", key, write)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; False if it was, and nothing is changed.

        Where the answer to a write was lost and it was sent again, False can mean our own first
        try: compare contents if that matters. On S3 False can also be a writer that fails later.
        """
        local = self.local_path(key)

        def write() -> bool:
            writer = self._writer()
            if local is not None:
                return write_file(local, lambda file: file.write_bytes(data), new=True)
            return self._put_new(writer, key, data)

        return self._ask("write", key, write)

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

        path, local = self._path(key), self.local_path(key)
        if local is not None:
            with self._errors("read", key):
                return local.is_file()
        try:
            self._ask("read", key, lambda: obstore.head(self._reader(), path))
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> list[Listed]:
        """Every object below `prefix` (a whole segment), sorted by key, but for files not ours."""
        import obstore

        path = self._path(prefix) if prefix else self._prefix
        skipped = len(self._prefix) + 1 if self._prefix else 0
        listed: dict[str, Listed] = {}

        def go_on() -> None:
            """From the last key on: of a store in trouble, twenty pages in a row may never come."""
            for some in obstore.list(self._reader(), path, offset=max(listed, default=None), chunk_size=1000):
                for item in some:
                    if is_key(at := item["path"]):
                        listed[at] = Listed(at[skipped:], item["size"], item["last_modified"])

        self._ask("list", prefix, go_on)
        return sorted(listed.values(), key=lambda item: item.key)

    def folders(self, prefix: str = "") -> builtins.list[str]:
        """Names of the folders directly below `prefix`, sorted: first segments of the keys that go on."""
        import obstore

        path = self._path(prefix) if prefix else self._prefix

        def folders_there() -> builtins.list[str]:
            reader = self._reader()
            found = obstore.list_with_delimiter(reader, path)["common_prefixes"]
            # A folder of a file system stays when it holds no object, as after a killed writer.
            return [
                folder
                for folder in found
                if self._place.folder is None
                or any(is_key(item["path"]) for some in obstore.list(reader, folder) for item in some)
            ]

        folders = self._ask("list", prefix, folders_there)
        names = (folder.rstrip("/").rsplit("/", 1)[-1] for folder in folders)
        return sorted(name for name in names if is_key(name))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, in order, or what `litter` listed; one that is gone is no error. For `collect`
        alone: nothing else needs the right to delete."""
        import obstore

        for key in keys:
            # What was listed as litter is no key.
            name, mark, rest = key.partition(UNFINISHED)
            path, local = self._path(name), self.local_path(name)
            with self._errors("delete", key):
                if local is not None:
                    local.with_name(local.name + mark + rest).unlink(missing_ok=True)
                else:
                    with suppress(FileNotFoundError):
                        obstore.delete(self._writer(), path)

    def litter(self) -> builtins.list[Listed]:
        """What killed writers left in a folder, `KEY#...`; none elsewhere (see above)."""
        folder = self._place.folder
        if folder is None:
            return []
        root = folder / self._prefix if self._prefix else folder
        found = []
        with self._errors("list", ""):
            for path in sorted(root.rglob(f"*{UNFINISHED}*")):
                key = path.relative_to(root).as_posix()
                with suppress(FileNotFoundError):
                    state = path.stat()
                    if is_key(key.partition(UNFINISHED)[0]) and path.is_file():
                        modified = datetime.fromtimestamp(state.st_mtime, UTC)
                        found.append(Listed(key, state.st_size, modified))
        return found

    def upload(self, key: str, path: Path) -> None:
        """Write a file's content, of any size, in place of any object of that key."""
        import obstore

        target, local = self._path(key), self.local_path(key)
        if not path.is_file():
            raise StoreError(f"can't upload {path} to {Where(self.url, key)}: there is no such file")

        def write() -> None:
            writer = self._writer()
            if local is not None:
                write_file(local, lambda file: shutil.copyfile(path, file), new=False)
            else:
                obstore.put(writer, target, path, chunk_size=_PART_BYTES, max_concurrency=_PARTS)

        self._ask("write", key, write)

    def download(self, key: str, path: Path) -> None:
        """Write an object of any size to the file `path`, whole or not at all. Raises NotFound."""
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                for part in self.stream(key):
                    file.write(part)
            temporary.replace(path)
        except OSError as error:
            raise translate(error, "write", Where(str(path))) from error
        finally:
            temporary.unlink(missing_ok=True)

    def stream(self, key: str) -> Iterator[bytes]:
        """An object's bytes in pieces, whatever its size; goes on where it was cut off. Raises NotFound."""
        import obstore

        done, parts = 0, None

        def next_part() -> bytes | None:
            nonlocal parts
            if parts is None:
                options: obstore.GetOptions = {"range": {"offset": done}} if done else {}
                parts = iter(
                    obstore.get(self._reader(), self._path(key), options=options).stream(_PART_BYTES)
                )
            try:
                part = next(parts, None)
            except BaseException:
                parts = None
                raise
            return None if part is None else bytes(part)

        while (part := self._ask("read", key, next_part)) is not None:
            done += len(part)
            yield part

    @property
    def endpoint(self) -> str:
        """S3's endpoint, as boto3 finds it; "" of other places. Raises StoreError."""
        if self.is_remote and not self._place.endpoint:
            self._reader()
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

    def check(self) -> None:
        """Prove that we may write, read, list and put-if-absent here; made at the start of a run.

        Takes four small requests on S3 and gives up within seconds. Leaves `.probe/aicsweep`, the
        same bytes each time, since the right to delete is not needed for anything else.
        Raises StoreError, saying what is wrong and what to do.
        """
        import obstore

        with self._errors("write", _PROBE_KEY):
            store = self._place.connect(writing=True, probing=True)
            obstore.put(store, self._path(_PROBE_KEY), _PROBE)
        with self._errors("read", _PROBE_KEY):
            found = self._get(store, _PROBE_KEY)
        if found != _PROBE:
            remedy = "Is it a cache or a gateway? aicsweep needs to read back at once what it wrote."
            raise StoreError(f"{self.url} gives back other bytes than were written", remedy=remedy)
        with self._errors("write", _PROBE_KEY):
            overwritten = self._put_new(store, _PROBE_KEY, _PROBE)
        if overwritten:
            remedy = (
                "Without it two writers of one key overwrite each other: a result could be lost, and an artefact"
                " be another than its manifest says. Current AWS S3, MinIO, Ceph, SeaweedFS and R2 have it."
            )
            raise StoreError(
                f"{self.url} ignores put-if-absent (If-None-Match) and overwrites", remedy=remedy
            )
        with self._errors("list", ".probe"):
            obstore.list(store, self._path(".probe")).collect()

    def check_readable(self) -> None:
        """Prove that we may list here, in one small request that gives up within seconds; for those who only
        read. Raises StoreError."""
        import obstore

        with self._errors("list", ""):
            store = self._place.connect(writing=False, probing=True)
            obstore.list_with_delimiter(store, self._prefix)

    def _path(self, key: str) -> str:
        """The key from the place's root on."""
        if not is_key(key):
            raise ValueError(f"not a store key: {key!r}")
        return f"{self._prefix}/{key}" if self._prefix else key

    def _reader(self) -> ObjectStore:
        return self._place.connect(writing=False)

    def _writer(self) -> ObjectStore:
        return self._place.connect(writing=True)

    def _get(self, store: ObjectStore, key: str) -> bytes:
        import obstore

        return obstore.get(store, self._path(key)).bytes().to_bytes()

    def _put_new(self, store: ObjectStore, key: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(store, self._path(key), data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def _ask(self, doing: str, key: str, work: Callable[[], T]) -> T:
        """What `work` asks of the place, again while that is away."""

        def once() -> T:
            with self._errors(doing, key):
                return work()

        patience = self._place.patience
        return once() if patience is None else patience.ask(once)

    @contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        """The border: nothing foreign gets past it."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            raise translate(error, doing, Where(self.url, key, self._place.endpoint)) from error
