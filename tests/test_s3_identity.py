"""boto3 says who we are and where the bucket is; obstore, which moves the bytes, must say the same.

For each source of settings that AWS users know, both ask one server for one object, and what the server was told
is compared: address, path, access key, session token, and the region that was signed for.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from runner.store import NotFound, open_store

BUCKET, KEY = "bench-bucket", "some/object.json"


@dataclass(frozen=True)
class Told:
    """What a request for the object told the server."""

    address: str
    path: str
    access_key: str
    region: str
    token: str


class _Handler(BaseHTTPRequestHandler):
    """Answers for S3 (there is no such object), for STS, for a container's and for an instance's credentials."""

    told: list[Told]

    def do_GET(self) -> None:
        # Through a proxy the whole URL is asked for.
        address, path = self.headers["Host"], re.sub("^http://[^/]+", "", self.path)
        if path.startswith("/credentials"):
            return self._answer(200, json.dumps(_keys("container")))
        if path.startswith("/latest/meta-data/iam/security-credentials/"):
            role = path.rpartition("/")[2]
            return self._answer(200, json.dumps({"Code": "Success", **_keys("instance")}) if role else "role")
        scope = re.search(r"Credential=([^/]+)/\d+/([^/]+)/s3/", self.headers.get("Authorization", ""))
        key, region = scope.groups() if scope else ("", "")
        token = self.headers.get("x-amz-security-token", "")
        self.told.append(Told(address, path.partition("?")[0], key, region, token))
        self._answer(404, "<Error><Code>NoSuchKey</Code></Error>")

    def do_PUT(self) -> None:
        """An instance's token."""
        self._answer(200, "token")

    def do_POST(self) -> None:
        """STS."""
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        action = re.search(r"Action=(\w+)", asked)
        assert action
        name = action[1]
        keys = _keys(name)
        inner = (
            f"<AccessKeyId>{keys['AccessKeyId']}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>{keys['Token']}</SessionToken><Expiration>{keys['Expiration']}</Expiration>"
        )
        self._answer(
            200,
            f"<{name}Response><{name}Result><Credentials>{inner}</Credentials>"
            f"<AssumedRoleUser><Arn>arn:aws:sts::1:role/r</Arn><AssumedRoleId>r</AssumedRoleId></AssumedRoleUser>"
            f"</{name}Result></{name}Response>",
        )

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def _keys(source: str) -> dict[str, str]:
    ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "AccessKeyId": f"key-{source}",
        "SecretAccessKey": "s",
        "Token": f"token-{source}",
        "Expiration": ends,
    }


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[Told]]]:
    told: list[Told] = []
    handler = type("Handler", (_Handler,), {"told": told})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{server.server_port}", told
        finally:
            server.shutdown()


KEYS = {"AWS_ACCESS_KEY_ID": "key-env", "AWS_SECRET_ACCESS_KEY": "s"}
PROFILE_KEYS = "aws_access_key_id = key-profile\naws_secret_access_key = s\n"

Settings = tuple[Mapping[str, str], str]
SOURCES: dict[str, Callable[[str, Path], Settings]] = {
    "environment": lambda url, folder: (
        {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "eu-west-3"}, ""),
    "no region": lambda url, folder: ({**KEYS, "AWS_ENDPOINT_URL": url}, ""),
    "session token": lambda url, folder: ({**KEYS, "AWS_SESSION_TOKEN": "token-env", "AWS_ENDPOINT_URL": url}, ""),
    "endpoint of S3 before the general one": lambda url, folder: (
        {**KEYS, "AWS_ENDPOINT_URL_S3": url, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, ""),
    "default profile": lambda url, folder: (
        {}, f"[default]\n{PROFILE_KEYS}region = ap-south-1\nendpoint_url = {url}\n"),
    "named profile with services": lambda url, folder: (
        {"AWS_PROFILE": "lab"},
        f"[profile lab]\n{PROFILE_KEYS}region = us-west-2\nservices = lab\n"
        f"[services lab]\ns3 =\n  endpoint_url = {url}\n"),
    "path style": lambda url, folder: (
        {**KEYS, "AWS_ENDPOINT_URL": url}, "[default]\ns3 =\n  addressing_style = path\n"),
    "virtual hosts": lambda url, folder: (
        {**KEYS, "AWS_ENDPOINT_URL": "http://s3.lab.invalid:9000", "http_proxy": url},
        "[default]\ns3 =\n  addressing_style = virtual\n"),
    "credential process": lambda url, folder: (
        {"AWS_ENDPOINT_URL": url}, f"[default]\ncredential_process = {sys.executable} {_process(folder)}\n"),
    "web identity": lambda url, folder: (
        {"AWS_ENDPOINT_URL": url, "AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_DEFAULT_REGION": "us-east-1",
         "AWS_WEB_IDENTITY_TOKEN_FILE": str(_file(folder, "jwt", "a token"))}, ""),
    "assumed role": lambda url, folder: (
        {"AWS_ENDPOINT_URL": url, "AWS_PROFILE": "role", "AWS_DEFAULT_REGION": "us-east-1"},
        f"[profile base]\n{PROFILE_KEYS}[profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n"),
    "container": lambda url, folder: (
        {"AWS_ENDPOINT_URL": url, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/credentials"}, ""),
    "instance": lambda url, folder: (
        {"AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_EC2_METADATA_DISABLED": "false"}, ""),
}  # fmt: skip
EXPECTED_KEYS = {
    "credential process": "key-process", "web identity": "key-AssumeRoleWithWebIdentity",
    "assumed role": "key-AssumeRole", "container": "key-container", "instance": "key-instance",
}  # fmt: skip


def _file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def _process(folder: Path) -> Path:
    keys = _keys("process")
    found = {"Version": 1, **keys, "SessionToken": keys["Token"]}
    return _file(folder, "process.py", f"print({json.dumps(found)!r})\n")


def settle(settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, config = settings
    monkeypatch.setenv("AWS_CONFIG_FILE", str(_file(folder, "aws-config", config)))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def asked_by_boto3() -> None:
    with pytest.raises(ClientError, match="NoSuchKey"):
        boto3.Session().client("s3").get_object(Bucket=BUCKET, Key=KEY)


def asked_by_store() -> None:
    with pytest.raises(NotFound):
        open_store(f"s3://{BUCKET}").get(KEY)


@pytest.mark.parametrize("source", SOURCES)
def test_boto3_and_obstore_tell_the_server_the_same(
    source: str, no_aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as (url, told):
        settle(SOURCES[source](url, tmp_path), tmp_path, monkeypatch)
        asked_by_boto3()
        asked_by_store()
    by_boto3, by_store = told
    assert by_store == by_boto3
    assert by_store.access_key == EXPECTED_KEYS.get(source, by_store.access_key)
    assert by_store.access_key
    assert KEY in by_store.path


def test_the_region_that_pods_are_given_counts(
    no_aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_REGION is what every other SDK reads; boto3 does not."""
    with serving() as (url, told):
        settle(({**KEYS, "AWS_ENDPOINT_URL": url, "AWS_REGION": "sa-east-1"}, ""), tmp_path, monkeypatch)
        asked_by_store()
    assert told[0].region == "sa-east-1"


@pytest.mark.parametrize("by", ["environment", "profile"])
def test_a_ca_bundle_of_ones_own(
    by: str, no_aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    fresh = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    signed = ["-CA", str(authority), "-CAkey", str(tmp_path / "ca.key")]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    for command in (
        [*fresh, "-subj", "/CN=lab authority", "-keyout", str(tmp_path / "ca.key"), "-out", str(authority)],
        [*fresh, *signed, "-subj", "/CN=lab", *names, "-keyout", str(key), "-out", str(certificate)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as (url, told):
        environment: dict[str, Any] = {**KEYS, "AWS_ENDPOINT_URL": url}
        if by == "environment":
            settle(({**environment, "AWS_CA_BUNDLE": str(authority)}, ""), tmp_path, monkeypatch)
        else:
            settle((environment, f"[default]\nca_bundle = {authority}\n"), tmp_path, monkeypatch)
        asked_by_boto3()
        asked_by_store()
    by_boto3, by_store = told
    assert by_store == by_boto3
