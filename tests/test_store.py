"""One contract for a folder, memory and a real S3 server; then what only one of them can get wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner.errors import BadInput, StoreError
from runner.store import NotFound, Store, open_store
from runner.store_errors import Where, translate
from tests.ports import free_ports
from tests.s3_server import READER_KEY, S3Server


def keys_of(store: Store, prefix: str = "") -> list[str]:
    return [listed.key for listed in store.list(prefix)]


# --- the contract


def test_bytes_come_back(store: Store) -> None:
    for data in (b"", b"\x00\xff" * 5000, b"later"):
        store.put("plans/a.json", data)
        assert store.get("plans/a.json") == data
    assert store.exists("plans/a.json")


def test_an_object_over_the_size_of_a_part_comes_back(store: Store) -> None:
    data = os.urandom(1024) * 9 * 1024
    store.put("big", data)
    assert store.get("big") == data


@pytest.mark.parametrize("key", ["plans/none", "none", "plans/a.json/below", "plans"])
def test_what_was_never_written_is_not_found(store: Store, key: str) -> None:
    store.put("plans/a.json", b"x")
    assert not store.exists(key)
    with pytest.raises(NotFound, match="doesn't exist") as caught:
        store.get(key)
    assert f"{store.url}/{key}" in str(caught.value)


def test_an_empty_store_reads_as_empty(store: Store) -> None:
    assert store.list() == []
    assert store.list("plans") == []
    assert store.folders() == []
    assert not store.exists("plans/a.json")
    with pytest.raises(NotFound):
        store.get("plans/a.json")


def test_put_new_never_overwrites(store: Store) -> None:
    assert store.put_new("plans/a.json", b"first") is True
    assert store.put_new("plans/a.json", b"second") is False
    assert store.get("plans/a.json") == b"first"


def test_of_many_writers_one_is_told_it_was_first(store: Store) -> None:
    for round_ in range(2):
        start = threading.Barrier(4)

        def write(number: int, key: str = f"race/{round_}", start: threading.Barrier = start) -> bool:
            start.wait()
            return store.put_new(key, b"%d" % number)

        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(write, range(4)))
        assert won.count(True) == 1
        assert store.get(f"race/{round_}") == b"%d" % won.index(True)


def test_list_is_recursive_sorted_and_by_whole_segments(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    for key in ("a/z", "a/b/c", "ab/x", "a-b", "top"):
        store.put(key, key.encode())
    assert keys_of(store) == ["a-b", "a/b/c", "a/z", "ab/x", "top"]
    assert keys_of(store, "a") == ["a/b/c", "a/z"]
    assert keys_of(store, "a/z") == []
    assert {listed.key: listed.size_bytes for listed in store.list("a")} == {"a/b/c": 5, "a/z": 3}
    assert all(before <= listed.modified <= datetime.now(UTC) for listed in store.list())


def test_a_list_is_longer_than_a_page(store: Store) -> None:
    names = [f"many/{number:04d}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), names))
    assert keys_of(store, "many") == names


def test_folders_are_the_next_segments(store: Store) -> None:
    for key in ("sweeps/a/r1/x", "sweeps/a/r2/y", "sweeps/b/r1/x", "sweeps/file"):
        store.put(key, b"x")
    assert store.folders() == ["sweeps"]
    assert store.folders("sweeps") == ["a", "b"]
    assert store.folders("sweeps/a") == ["r1", "r2"]
    assert store.folders("none") == []


def test_get_many_keeps_the_order(store: Store) -> None:
    wanted = {f"results/{number:03d}": b"%d" % number for number in range(100)}
    for key, data in wanted.items():
        store.put(key, data)
    backwards = sorted(wanted, reverse=True)
    assert list(store.get_many(backwards)) == [(key, wanted[key]) for key in backwards]
    assert list(store.get_many([])) == []


def test_get_many_stops_at_what_is_missing(store: Store) -> None:
    store.put("a", b"x")
    reading = store.get_many(["a", "none", "a"])
    assert next(reading) == ("a", b"x")
    with pytest.raises(NotFound, match="none"):
        list(reading)


def test_get_many_reads_ahead_no_further_than_a_window(store: Store) -> None:
    store.put("a", b"x")
    asked = 0

    def keys() -> Iterator[str]:
        nonlocal asked
        for _ in range(1000):
            asked += 1
            yield "a"

    next(store.get_many(keys()))
    assert asked < 100


def test_files_go_up_and_come_down(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(os.urandom(1024) * 20 * 1024)
    store.upload("artifacts/model.onnx", source)
    target = tmp_path / "made" / "on" / "demand" / "model.onnx"
    store.download("artifacts/model.onnx", target)
    assert target.read_bytes() == source.read_bytes()
    assert os.listdir(target.parent) == ["model.onnx"]


def test_a_failed_download_leaves_nothing_and_spares_what_was_there(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "down" / "model.onnx"
    with pytest.raises(NotFound):
        store.download("none", target)
    assert list(target.parent.iterdir()) == []
    target.write_bytes(b"old")
    with pytest.raises(NotFound):
        store.download("none", target)
    assert target.read_bytes() == b"old"


def test_uploading_a_file_that_is_not_there_says_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such file") as caught:
        store.upload("a", tmp_path / "none")
    assert not isinstance(caught.value, NotFound)
    assert store.list() == []


def test_a_part_of_a_store_is_a_store(store: Store) -> None:
    part = store.at("sweeps/cnn")
    part.put("plans/a", b"x")
    assert store.get("sweeps/cnn/plans/a") == b"x"
    assert keys_of(part) == ["plans/a"]
    assert keys_of(part.at("plans")) == ["a"]
    assert part.folders() == ["plans"]
    assert part.url == f"{store.url}/sweeps/cnn"


ODD_KEYS = ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a b", "a#1", "ä", "a\n", "a\\b", "a%20b", "a:b"]


def test_other_keys_are_programming_errors(store: Store, tmp_path: Path) -> None:
    """In one test for all keys: an empty bucket for each would take seconds."""
    source = tmp_path / "source"
    source.write_bytes(b"x")
    uses: list[Callable[[str], object]] = [
        store.get,
        lambda key: list(store.get_many([key])),
        lambda key: store.put(key, b"x"),
        lambda key: store.put_new(key, b"x"),
        store.exists,
        store.at,
        lambda key: store.upload(key, source),
        lambda key: store.download(key, tmp_path / "target"),
        store.local_path,
    ]
    for key in ODD_KEYS:
        for use in uses:
            with pytest.raises(ValueError, match="not a store key"):
                use(key)
    assert store.list() == []


def test_check_passes_again_and_again_and_keeps_one_object(store: Store) -> None:
    store.check()
    store.check()
    assert keys_of(store) == [".probe/aicsweep"]


# --- what is accepted as a store


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


# --- a folder


def test_a_folder_store_is_read_in_place(tmp_path: Path) -> None:
    store = open_store(str(tmp_path)).at("part")
    store.put("a/b", b"x")
    path = store.local_path("a/b")
    assert path == tmp_path / "part" / "a" / "b"
    assert path.read_bytes() == b"x"


def test_other_stores_have_no_local_path() -> None:
    assert open_store("memory:").local_path("a") is None
    assert open_store("s3://bucket/x").local_path("a") is None


def test_files_that_are_not_ours_are_left_out(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("sub/ours", b"x")
    (tmp_path / "not ours").write_bytes(b"")
    (tmp_path / "ours#1").write_bytes(b"half")
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    assert keys_of(store) == ["sub/ours"]
    assert store.folders() == ["sub"]


def _cant_be_written(kind: str, tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    return {
        "file": file,
        "below a file": file / "sub",
        "no files": Path("/proc"),
        "no folders": Path("/proc/x"),
    }[kind]


@pytest.mark.parametrize("kind", ["file", "below a file", "no files", "no folders"])
def test_check_says_why_a_folder_cant_be_written(kind: str, tmp_path: Path) -> None:
    """Root may write anywhere, so these are places where nobody can; `no files` once ran for ever."""
    path = _cant_be_written(kind, tmp_path)
    store = open_store(str(path))
    for use in (store.check, lambda: store.put("a", b"x"), lambda: store.put_new("a", b"x")):
        with pytest.raises(StoreError) as caught:
            use()
        assert f"can't write {path}" in caught.value.message
        assert caught.value.remedy
        assert "Debug" not in str(caught.value)


_TO_THE_LIMIT = """
import resource, sys
from runner.errors import StoreError
from runner.store import open_store
store = open_store(sys.argv[1])
store.check()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for size in (20_000_000, 200_000):
    for write in (store.put, store.put_new):
        try:
            write("big", bytes(size))
        except StoreError as error:
            print(error.message, "|", error.remedy)
print([listed.key for listed in store.list()])
"""


def test_a_write_that_stops_half_way_is_an_error_and_no_object(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk, which can't be had here without mounting one."""
    command = [sys.executable, "-c", _TO_THE_LIMIT, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = ended.stdout.splitlines()
    assert len(lines) == 5, ended.stderr
    assert all("File too large" in line and "ulimit -f" in line for line in lines[:4])
    assert lines[4] == "['.probe/aicsweep']"


def test_a_full_disk_is_said_with_what_to_do() -> None:
    with pytest.raises(OSError, match="No space left") as real, open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    obstore_text = OSError(
        "Generic LocalFileSystem error: Unable to copy data to file (os error 28)\n\nDebug source"
    )
    for error in (real.value, obstore_text):
        said = translate(error, "write", Where("/data/runs", "plans/a"))
        assert said.message == f"can't write /data/runs/plans/a: {os.strerror(errno.ENOSPC)}"
        assert "Free some space" in said.remedy


_UPLOAD = """
import sys, pathlib
from runner.store import open_store
store = open_store(sys.argv[1])
store.upload("big/file", pathlib.Path(sys.argv[2]))
"""


def _kill_while_uploading(url: str, source: Path, seen: Callable[[], object]) -> int:
    """SIGKILL an upload as soon as `seen` says it is under way; the exit code."""
    with subprocess.Popen([sys.executable, "-c", _UPLOAD, url, str(source)]) as writer:
        deadline = time.monotonic() + 30
        while not seen() and writer.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        writer.send_signal(signal.SIGKILL)
        return writer.wait()


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.truncate(2 * 1024**3)
    return path


def test_a_killed_writer_leaves_nothing_in_a_folder(tmp_path: Path, big_file: Path) -> None:
    root = tmp_path / "store"

    def under_way() -> bool:
        return any(half.stat().st_size > 0 for half in (root / "big").glob("file#*"))

    code = _kill_while_uploading(str(root), big_file, under_way)
    assert code == -signal.SIGKILL
    (half,) = (root / "big").iterdir()
    store = open_store(str(root))
    assert half.stat().st_size < big_file.stat().st_size
    assert store.list() == []
    assert store.folders() == []
    assert not store.exists("big/file")
    store.put("big/file", b"whole")
    assert store.get("big/file") == b"whole"
    half.unlink()


def test_a_killed_writer_leaves_nothing_in_a_bucket(
    s3_server: S3Server, s3_bucket: str, big_file: Path
) -> None:
    client = s3_server.client()
    code = _kill_while_uploading(
        f"s3://{s3_bucket}", big_file, lambda: client.list_multipart_uploads(Bucket=s3_bucket).get("Uploads")
    )
    assert code == -signal.SIGKILL
    store = open_store(f"s3://{s3_bucket}")
    assert store.list() == []
    assert not store.exists("big/file")
    store.put("big/file", b"whole")
    assert store.get("big/file") == b"whole"


# --- S3


def said_by_check(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        open_store(url).check()
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
    store.check()
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
