"""Where a store's root lies: a folder, an S3 bucket, or this process's memory.

    results.url --`place_of`--> Place --`connect`--> obstore's client --> store

A place knows how to be opened and how it is called; what is done with objects is `store`'s.
boto3 says who we are and where the bucket is (environment, profiles, shared config, web
identity, instance roles), obstore moves the bytes. Both are imported only when connecting.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from runner.errors import BadInput, Problem, StoreError
from runner.store_errors import Where, first_line, translate, without_userinfo

if TYPE_CHECKING:
    import boto3.session
    import botocore.session
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

ACCEPTED = "Give a folder (runs/today, ~/runs, file:///data/runs) or s3://BUCKET/PREFIX."

_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+"
_KEY = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

# A run outlives a store that is restarted (a minute); the check before it doesn't wait: two tries of 3 s.
# `timeout` bounds a whole answer, so it must let a graph of several GB through; `read_timeout` finds stalls.
_PATIENT: RetryConfig = {
    "max_retries": 30,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 3,
    },
}
_PATIENT_CLIENT: ClientConfig = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": "2h"}
_PROBING: RetryConfig = {"max_retries": 1, "retry_timeout": timedelta(seconds=5)}
_PROBING_CLIENT: ClientConfig = {"connect_timeout": "3s", "read_timeout": "5s", "timeout": "5s"}

# obstore asks for credentials anew after this long. botocore hands out none that expire within 10 minutes
# (its mandatory refresh); the provider's own default of 30 would go on using expired ones.
_CREDENTIALS_TTL = timedelta(minutes=9)


@dataclass
class Folder:
    """A folder of this host, made when something is first written to it."""

    root: Path
    _writable: bool = field(default=False, init=False)
    endpoint = ""

    @property
    def url(self) -> str:
        return str(self.root)

    @property
    def folder(self) -> Path | None:
        return self.root

    def connect(self, *, writing: bool, probing: bool = False) -> ObjectStore:
        """obstore's client for the folder; one that is not there yet reads as empty."""
        from obstore.store import LocalStore, MemoryStore

        if writing and (probing or not self._writable):
            self._make()
        elif not self.root.is_dir():
            return MemoryStore()
        return LocalStore(self.root)

    def _make(self) -> None:
        """Make the folder and write to it once. By hand: obstore's LocalStore tries for ever, using all
        of a core, where a folder exists but files can't be made in it (seen with /proc)."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(bytes(4096))
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise translate(error, "write", Where(self.url)) from error
        self._writable = True


@dataclass
class Memory:
    """This process's memory: a store of its own for each instance."""

    url = "memory:"
    endpoint = ""
    folder: Path | None = field(default=None, init=False)
    _store: ObjectStore | None = field(default=None, init=False)

    def connect(self, *, writing: bool, probing: bool = False) -> ObjectStore:
        if self._store is None:
            from obstore.store import MemoryStore

            self._store = MemoryStore()
        return self._store


@dataclass
class Bucket:
    """An S3 bucket, found and signed for as boto3 does it.

    What obstore's own boto3 provider leaves out is read from a boto3 client: the endpoint
    (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3, `endpoint_url` of the shared config), its scheme, the
    region S3 is asked in if none is set, `addressing_style`, and the CA bundle.
    """

    name: str
    endpoint: str = field(default="", init=False)
    folder: Path | None = field(default=None, init=False)
    _clients: dict[bool, ObjectStore] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def connect(self, *, writing: bool, probing: bool = False) -> ObjectStore:
        """obstore's client for the bucket, one for work and one that soon gives up for the check."""
        with self._lock:
            if probing not in self._clients:
                self._clients[probing] = self._open(probing)
            return self._clients[probing]

    def _open(self, probing: bool) -> ObjectStore:
        import boto3
        import botocore.config
        import botocore.exceptions
        import botocore.session
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        try:
            core = botocore.session.get_session()
            # For the token services behind a profile or a web identity: minutes by default.
            quick = botocore.config.Config(connect_timeout=3, retries={"total_max_attempts": 2})
            core.set_default_client_config(quick)
            session = boto3.Session(botocore_session=core)
            config = self._config(session)
            credentials = session.get_credentials()
            if credentials is None:
                raise StoreError(
                    f"no AWS credentials found for {self.url}",
                    remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
                )
            if probing:
                credentials.get_frozen_credentials()
            return S3Store(
                self.name,
                config=config,
                client_options=_client_options(core, self.endpoint, probing),
                retry_config=_PROBING if probing else _PATIENT,
                credential_provider=Boto3CredentialProvider(session, ttl=_CREDENTIALS_TTL),
            )
        except (
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
            BaseError,
            ValueError,  # an endpoint that is no URL, a CA bundle without a certificate
        ) as error:
            raise StoreError(
                f"can't open {self.url}: {first_line(str(error))}",
                remedy="Check the AWS_* variables (AWS_ENDPOINT_URL, AWS_CA_BUNDLE, ...) and ~/.aws.",
            ) from error

    def _config(self, session: boto3.session.Session) -> S3Config:
        """obstore's settings that say where the bucket is; also sets `endpoint`, for people."""
        # boto3 itself knows only AWS_DEFAULT_REGION; AWS_REGION is what pods and all other SDKs are given.
        region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or session.region_name
        client = session.client("s3", region_name=region)
        endpoint: str = client.meta.endpoint_url
        self.endpoint = without_userinfo(endpoint)
        styles: dict[str, Any] = client.meta.config.s3 or {}
        virtual = styles.get("addressing_style") == "virtual"
        if virtual:
            endpoint = endpoint.replace("://", f"://{self.name}.", 1)
        return {
            # Both, since obstore reads AWS_ENDPOINT_URL_S3 by itself and prefers it.
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "virtual_hosted_style_request": virtual,
            "region": client.meta.region_name.replace("aws-global", "us-east-1"),
            "conditional_put": "etag",
        }


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


def _client_options(core: botocore.session.Session, endpoint: str, probing: bool) -> ClientConfig:
    options: ClientConfig = {**(_PROBING_CLIENT if probing else _PATIENT_CLIENT)}
    options["allow_http"] = endpoint.startswith("http://")
    bundle = core.get_config_variable("ca_bundle")
    if bundle:
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            remedy = "AWS_CA_BUNDLE or `ca_bundle` of the profile must name a PEM file."
            raise StoreError(f"can't read the CA bundle {bundle}: {error.strerror}", remedy=remedy) from error
    return options
