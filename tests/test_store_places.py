"""What is accepted as a store, and what S3 is told and asked before anything is written."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner.errors import BadInput, StoreError
from runner.store import NotFound, open_store
from runner.store_check import check
from tests.ports import free_ports
from tests.s3_server import READER_KEY, S3Server


def test_a_folder_is_named_in_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b").mkdir()
    open_store("runs/x").put("k", b"1")
    assert (tmp_path / "runs" / "x" / "k").read_bytes() == b"1"
    assert open_store("~/runs/x").get("k") == b"1"
    assert open_store(f"file://{tmp_path}/runs/x").get("k") == b"1"
    open_store(f"file://{tmp_path}/a%20b").put("k", b"2")
    assert (tmp_path / "a b" / "k").read_bytes() == b"2"
    assert open_store("runs/x").url == str(tmp_path / "runs" / "x")


def test_opening_and_reading_make_no_folder(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "none"))
    assert store.list() == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no store is named"),
        ("gs://bucket/x", "no store aicsweep knows"),
        ("https://host/bucket", "no store aicsweep knows"),
        ("s3:/bucket", "no store aicsweep knows"),
        ("s3a://bucket", "no store aicsweep knows"),
        ("a:b", "A folder with a colon: ./a:b"),
        ("file://host/data", "three slashes"),
        ("s3://", "no bucket name"),
        ("s3://My_Bucket/x", "no bucket name"),
        ("s3://ab", "no bucket name"),
        ("s3://a..b/x", "no bucket name"),
        ("s3://192.168.0.1/x", "no bucket name"),
        ("s3://bucket/a//b", "can't be a prefix"),
        ("s3://bucket/../b", "can't be a prefix"),
        ("s3://bucket/a b", "can't be a prefix"),
        ("s3://bucket/x?endpoint=y", "more than a place"),
        ("~nobody-of-that-name/x", "no home folder"),
    ],
)
def test_other_urls_are_bad_input_with_what_would_be_right(url: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_store(url)
    assert said in str(caught.value)
    assert caught.value.problems[0].remedy


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    for url in ("s3://AKIAKEY:verysecret@bucket/x", "ftp://me:verysecret@host/x"):
        with pytest.raises(BadInput) as caught:
            open_store(url)
        assert "verysecret" not in str(caught.value)
        assert "AKIAKEY" not in str(caught.value)


def said_by_check(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        check(open_store(url))
    text = str(caught.value)
    assert caught.value.remedy
    assert "testsecret" not in text
    assert "<" not in text
    assert "Debug" not in text
    return text


def test_a_missing_bucket_is_named(s3_bucket: str) -> None:
    said = said_by_check("s3://no-such-bucket/x")
    assert "s3://no-such-bucket/x" in said
    assert "the bucket doesn't exist" in said
    store = open_store("s3://no-such-bucket")
    for use in (lambda: store.get("a"), store.list, lambda: store.put_new("a", b"")):
        with pytest.raises(StoreError, match="the bucket doesn't exist") as caught:
            use()
        assert not isinstance(caught.value, NotFound)


def test_wrong_and_weak_credentials_are_told_apart(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{s3_bucket}"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret-wrong")
    assert "the secret key is wrong" in said_by_check(url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testnobody")
    assert "the access key is not known" in said_by_check(url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    said = said_by_check(url)
    assert "access is denied" in said
    assert "s3:PutObject" in said
    assert open_store(url).list() == []


def test_no_credentials(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials found" in said_by_check(f"s3://{s3_bucket}")
    monkeypatch.setenv("AWS_PROFILE", "none-of-that-name")
    assert "none-of-that-name" in said_by_check(f"s3://{s3_bucket}")
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    assert "can't open" in said_by_check(f"s3://{s3_bucket}")


def test_an_endpoint_that_does_not_answer(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    said = said_by_check("s3://bucket/x")
    assert f"http://127.0.0.1:{port} can't be reached (connection refused)" in said
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hunter2@no-such-host.invalid:9000")
    assert "hunter2" not in said_by_check("s3://bucket/x")


def test_tls_spoken_to_a_plain_server(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint.replace("http:", "https:"))
    assert "it doesn't speak TLS" in said_by_check(f"s3://{s3_bucket}")


def test_a_ca_bundle_that_cant_be_read(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    assert "none.pem" in said_by_check(f"s3://{s3_bucket}")
    (tmp_path / "none.pem").write_text("no certificate")
    assert "AWS_CA_BUNDLE" in said_by_check(f"s3://{s3_bucket}")


def test_everything_may_come_from_a_profile(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Endpoint, region and keys of a shared config, as the AWS command line reads it."""
    environment = s3_server.environment()
    for name in environment:
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        f"[profile lab]\nregion = eu-central-1\nservices = lab\n"
        f"aws_access_key_id = {environment['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {environment['AWS_SECRET_ACCESS_KEY']}\n"
        f"[services lab]\ns3 =\n  endpoint_url = {s3_server.endpoint}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    store = open_store(f"s3://{s3_bucket}")
    check(store)
    store.put("a", b"x")
    assert store.get("a") == b"x"


class _Gateway(BaseHTTPRequestHandler):
    """An S3 server that takes any write and knows nothing of conditions, or refuses them."""

    objects: dict[str, bytes]
    refuses = False

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refuses and "If-None-Match" in self.headers:
            self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")
            return
        self.objects[self.path] = data
        self._answer(200, b"")

    def do_GET(self) -> None:
        self._answer(200, self.objects[self.path])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Tue, 24 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("refuses", "said"), [(False, "ignores put-if-absent"), (True, "conditional writes")]
)
def test_a_store_without_put_if_absent_is_refused(
    refuses: bool, said: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = type("Gateway", (_Gateway,), {"objects": {}, "refuses": refuses})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        assert said in said_by_check("s3://bucket/x")
        server.shutdown()


def test_s3_and_obstore_are_imported_only_when_used() -> None:
    program = (
        "import sys, runner.store; s = runner.store.open_store('s3://bucket/x');"
        "print([m for m in ('boto3', 'botocore', 'obstore') if m in sys.modules], s.url)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[0] == "[] s3://bucket/x"
