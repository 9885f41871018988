"""An S3 bucket as the place of a store: boto3 says who we are and where it is, obstore moves the bytes.

    environment, profiles, shared config, web identity, roles --> boto3 --`connect`--> obstore's client

Both are imported only when connecting. That the two agree is held by tests/test_s3_identity.py.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import environment
from runner.errors import StoreError
from runner.patience import Patience
from runner.store_errors import Expired, first_line, without_userinfo

if TYPE_CHECKING:
    import boto3.session
    import botocore.session
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

# Quick tries, with jitter, for what passes in a moment; the long waiting is `patience`'s.
_QUICK: RetryConfig = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}
# The check before a run doesn't wait: two tries of 3 s.
_PROBING: RetryConfig = {"max_retries": 1, "retry_timeout": timedelta(seconds=5)}
_PROBING_CLIENT: ClientConfig = {"connect_timeout": "3s", "read_timeout": "5s", "timeout": "5s"}

# obstore asks for credentials anew after this long. botocore hands out none that expire within 10 minutes
# (its mandatory refresh); the provider's own default of 30 would go on using expired ones.
_CREDENTIALS_TTL = timedelta(minutes=9)


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
    patience: Patience = field(init=False)
    _clients: dict[bool, ObjectStore] = field(default_factory=dict, init=False)
    # boto3's, for what obstore can't do: presigned links, the Retry-After of an answer.
    _client: Any = field(default=None, init=False)
    _was_open: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.patience = Patience(environment.number(environment.STORE_PATIENCE_S), self._told_s, self._renew)

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def connect(self, *, writing: bool, probing: bool = False) -> ObjectStore:
        """obstore's client for the bucket, one for work and one that soon gives up for the check."""
        with self._lock:
            if probing not in self._clients:
                self._clients[probing] = self._open(probing)
            return self._clients[probing]

    def link(self, path: str, seconds: int) -> str:
        """A URL that lets whoever has it read the object for so long, or until our credentials expire."""
        self.connect(writing=False)
        given = {"Bucket": self.name, "Key": path}
        return str(self._client.generate_presigned_url("get_object", Params=given, ExpiresIn=seconds))

    def _renew(self) -> None:
        """Forget who we are: environment, files and token services are asked again when next needed."""
        with self._lock:
            self._clients.clear()
            self._client = None

    def _told_s(self) -> float:
        """Seconds that the store asks us to wait, by one request; 0 where it says nothing of it."""
        import botocore.exceptions

        client = self._client
        try:
            if client is not None:
                client.head_bucket(Bucket=self.name)
        except botocore.exceptions.ClientError as error:
            headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
            return retry_after_s(headers.get("retry-after", ""), time.time())
        except botocore.exceptions.BotoCoreError:
            pass
        return 0.0

    def _open(self, probing: bool) -> ObjectStore:
        import boto3
        import botocore.config
        import botocore.exceptions
        import botocore.session
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        # Later on it is a token service that is away, or a file that is being written.
        kind = Expired if self._was_open else StoreError
        try:
            core = botocore.session.get_session()
            # For the token services behind a profile or a web identity: minutes by default.
            quick = botocore.config.Config(connect_timeout=3, retries={"total_max_attempts": 2})
            core.set_default_client_config(quick)
            session = boto3.Session(botocore_session=core)
            config = self._config(session)
            credentials = session.get_credentials()
            if credentials is None:
                raise kind(
                    f"no AWS credentials found for {self.url}",
                    remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
                )
            if probing:
                credentials.get_frozen_credentials()
            opened = S3Store(
                self.name,
                config=config,
                client_options=_client_options(core, self.endpoint, probing),
                retry_config=_PROBING if probing else _QUICK,
                credential_provider=Boto3CredentialProvider(session, ttl=_CREDENTIALS_TTL),
            )
            self._was_open = True
            return opened
        except (
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
            BaseError,
            ValueError,  # an endpoint that is no URL, a CA bundle without a certificate
        ) as error:
            raise kind(
                f"can't open {self.url}: {first_line(str(error))}",
                remedy="Check the AWS_* variables (AWS_ENDPOINT_URL, AWS_CA_BUNDLE, ...) and ~/.aws.",
            ) from error

    def _config(self, session: boto3.session.Session) -> S3Config:
        """obstore's settings that say where the bucket is; also sets `endpoint`, for people."""
        import botocore.config

        # boto3 itself knows only AWS_DEFAULT_REGION; AWS_REGION is what pods and all other SDKs are given.
        region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or session.region_name
        # Else boto3 signs links the old way (SigV2) in the older regions: they refuse objects under KMS keys.
        single = botocore.config.Config(
            read_timeout=5, retries={"total_max_attempts": 1}, signature_version="s3v4"
        )
        self._client = client = session.client("s3", region_name=region, config=single)
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


def retry_after_s(text: str, now_s: float) -> float:
    """Seconds of a Retry-After header, which holds seconds or a date; 0 for anything else."""
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except ValueError:
        return 0.0


def _client_options(core: botocore.session.Session, endpoint: str, probing: bool) -> ClientConfig:
    # `timeout` bounds a whole answer, so it must let a graph of several GB through; `read_timeout` finds stalls.
    lasting: ClientConfig = {
        "connect_timeout": "5s",
        "read_timeout": f"{round(environment.number(environment.STORE_TIMEOUT_S) * 1000)}ms",
        "timeout": "2h",
    }
    options: ClientConfig = {**(_PROBING_CLIENT if probing else lasting)}
    options["allow_http"] = endpoint.startswith("http://")
    bundle = core.get_config_variable("ca_bundle")
    if bundle:
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            remedy = "AWS_CA_BUNDLE or `ca_bundle` of the profile must name a PEM file."
            raise StoreError(f"can't read the CA bundle {bundle}: {error.strerror}", remedy=remedy) from error
    return options
