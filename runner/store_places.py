"""Where a store's root lies: a folder (`folder`), an S3 bucket (`bucket`), or this process's memory.

    results.url --`place_of`--> Place --`connect`--> obstore's client --> store

A place knows how to be opened and how it is called; what is done with objects is `store`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from runner.bucket import Bucket
from runner.errors import BadInput, Problem
from runner.folder import Folder
from runner.store_errors import without_userinfo

if TYPE_CHECKING:
    from obstore.store import ObjectStore

ACCEPTED = "Give a folder (runs/today, ~/runs, file:///data/runs) or s3://BUCKET/PREFIX."

_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+"
_KEY = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass
class Memory:
    """This process's memory: a store of its own for each instance."""

    url = "memory:"
    endpoint = ""
    patience = None
    folder: Path | None = field(default=None, init=False)
    _store: ObjectStore | None = field(default=None, init=False)

    def connect(self, *, writing: bool, probing: bool = False) -> ObjectStore:
        if self._store is None:
            from obstore.store import MemoryStore

            self._store = MemoryStore()
        return self._store


Place = Folder | Bucket | Memory


def is_key(text: str) -> bool:
    """Whether an object may be called so: segments of [A-Za-z0-9._-], no `.` or `..`, one slash between."""
    return _KEY.fullmatch(text) is not None


def place_of(url: str) -> tuple[Place, str]:
    """The place a URL names, and the prefix in it. Raises BadInput; nothing is touched or connected."""
    if url == "memory:":
        return Memory(), ""
    if not url.strip():
        raise _bad("no store is named")
    if not _SCHEME.match(url):
        return _folder(url), ""
    shown = without_userinfo(url)
    parts = urlsplit(url)
    if parts.scheme not in ("s3", "file") or not url[len(parts.scheme) + 1 :].startswith("//"):
        raise _bad(f"{shown!r} is no store aicsweep knows", f"{ACCEPTED} (A folder with a colon: ./{shown}.)")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise _bad(
            f"{shown!r} has more than a place in it", f"Credentials go into AWS_* variables. {ACCEPTED}"
        )
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise _bad(f"{shown!r} names a host", "A file URL has three slashes: file:///data/runs.")
        return _folder(unquote(parts.path)), ""
    if not _BUCKET.fullmatch(parts.netloc):
        remedy = "3 to 63 lower-case letters, digits, dots or dashes, first and last a letter or digit."
        raise _bad(f"{shown!r}: {parts.netloc!r} is no bucket name", remedy)
    prefix = parts.path.strip("/")
    if prefix and not is_key(prefix):
        remedy = "Letters, digits, dots, dashes and underscores, parts separated by single slashes."
        raise _bad(f"{shown!r}: {prefix!r} can't be a prefix", remedy)
    return Bucket(parts.netloc), prefix


def _folder(path: str) -> Folder:
    try:
        return Folder(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise _bad(f"{path!r}: no home folder of that user", ACCEPTED) from error


def _bad(message: str, remedy: str = ACCEPTED) -> BadInput:
    return BadInput([Problem("", message, remedy)], source="store")
