"""What only a folder can get wrong, and what a killed writer leaves in a folder and in a bucket."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import StoreError
from runner.store import open_store
from runner.store_check import check
from runner.store_errors import Where, translate
from tests.s3_server import S3Server


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
    assert [listed.key for listed in store.list()] == ["sub/ours"]
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
    for use in (lambda: check(store), lambda: store.put("a", b"x"), lambda: store.put_new("a", b"x")):
        with pytest.raises(StoreError) as caught:
            use()
        assert f"can't write {path}" in caught.value.message
        assert caught.value.remedy
        assert "Debug" not in str(caught.value)


_TO_THE_LIMIT = """
import resource, sys
from runner.errors import StoreError
from runner.store import open_store
from runner.store_check import check
store = open_store(sys.argv[1])
check(store)
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
store.put("big/file", pathlib.Path(sys.argv[2]))
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
