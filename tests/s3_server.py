"""A real S3 server for tests: SeaweedFS in one process of our own, with two identities.

Every service gets a free port, so several servers run at once. Data lies below the folder given,
and the process is ended by its id.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.ports import free_ports

ADMIN_KEY, READER_KEY, SECRET_KEY = "testadmin", "testreader", "testsecret"
# The administrator's next key, for credentials that are renewed.
SECOND_KEY = "testadmin2"

_IDENTITIES = {
    "identities": [
        {
            "name": "admin",
            "credentials": [{"accessKey": key, "secretKey": SECRET_KEY} for key in (ADMIN_KEY, SECOND_KEY)],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": READER_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Read", "List"],
        },
    ]
}
_PORT_FLAGS = [
    f"{service}.port{kind}"
    for service in ("master", "volume", "filer", "s3", "admin")
    for kind in ("", ".grpc")
]
# A port found free may be taken before the server binds it; then it ends or stays silent.
_STARTS = 3
_READY_S = 20.0
_STOP_S = 10.0


@dataclass(frozen=True)
class S3Server:
    """A running server: where it listens. `ADMIN_KEY` may do all, `READER_KEY` only read and list."""

    endpoint: str
    pid: int

    def environment(self, access_key: str = ADMIN_KEY, secret_key: str = SECRET_KEY) -> dict[str, str]:
        """AWS_* variables that point boto3 and aicsweep here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @functools.cache  # noqa: B019 - a server or two a session; making a client takes 0.1 s
    def client(self) -> Any:
        """boto3's S3 client with all rights, whatever the environment says."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ADMIN_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            verify=False,
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """A server with its data below `folder`, ready for requests; else RuntimeError with its log."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "identities.json").write_text(json.dumps(_IDENTITIES))
    for start in range(_STARTS):
        process, server = _start(folder, folder / f"data-{start}")
        try:
            if _wait_ready(process, server):
                yield server
                return
        finally:
            _stop(process)
    raise RuntimeError(f"no S3 server after {_STARTS} starts:\n{(folder / 'log').read_text()[-4000:]}")


def _start(folder: Path, data: Path) -> tuple[subprocess.Popen[bytes], S3Server]:
    data.mkdir()
    ports = dict(zip(_PORT_FLAGS, free_ports(len(_PORT_FLAGS)), strict=True))
    command = [
        str(Path(sys.executable).with_name("weed")),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={folder / 'identities.json'}",
        f"-s3.localSocket={data / 's3.sock'}",
        f"-filer.localSocket={data / 'filer.sock'}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        # Left alone it follows from the free disk: each bucket takes volumes of 128 MB, and on a disk
        # with 20 GB free the 23rd bucket was answered with "internal error". Empty volumes take no room.
        "-volume.max=10000",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        *(f"-{flag}={port}" for flag, port in ports.items()),
    ]
    # Its own AWS_* would become an identity; unix sockets go below TMPDIR.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=data, env={**environment, "TMPDIR": str(data)}
        )
    return process, S3Server(f"http://127.0.0.1:{ports['s3.port']}", process.pid)


def _wait_ready(process: subprocess.Popen[bytes], server: S3Server) -> bool:
    """Until an object can be written: the port answers long before there is a volume to write to."""
    client = server.client()
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if not client.list_buckets()["Buckets"]:
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
            return True
        except (BotoCoreError, ClientError):
            time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
