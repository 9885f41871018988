"""Artefacts over a folder, memory and a real S3 server: published once, whole, and checked before use."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner import artifact_copies
from runner.artifact_records import DamagedArtifact
from runner.artifacts import Artifact, fetch, find, find_infeasible, publish, record_infeasible
from runner.errors import StoreError
from runner.keys import canonical, digest_bytes
from runner.store import Store, open_store

KEY = "0123456789abcdef0123456789abcdef"
FACTS = {"opset": 17, "report": {"max_abs_error": 1e-6, "revision": None}, "versions": ["torch 2"]}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What an exporter or compiler leaves: a few files, one of them in a folder."""
    folder = tmp_path / "built"
    (folder / "parts").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph " * 1000)
    (folder / "model.onnx.data").write_bytes(os.urandom(100_000))
    (folder / "parts" / "0.bin").write_bytes(b"")
    return folder


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as verified yet, as at the start of a process."""
    monkeypatch.setattr(artifact_copies, "_verified", set())


def forget_verified() -> None:
    artifact_copies._verified.clear()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_published_is_found_and_fetched(store: Store, built: Path, tmp_path: Path) -> None:
    assert find(store, "export", KEY) is None
    published = publish(store, "export", KEY, built, FACTS)
    found = find(store, "export", KEY)
    assert found == published
    assert found.facts == FACTS
    assert {name: file.sha256 for name, file in found.files.items()} == {
        name: sha256(data) for name, data in contents(built).items()
    }
    assert found.size_bytes == sum(len(data) for data in contents(built).values())
    wanted = contents(built)
    shutil.rmtree(built)
    assert contents(fetch(store, found, tmp_path / "cache")) == wanted


def test_kinds_and_keys_are_apart(store: Store, built: Path) -> None:
    publish(store, "export", KEY, built, {})
    assert find(store, "binary", KEY) is None
    assert find(store, "export", KEY[::-1]) is None


def test_the_digest_is_over_names_and_contents_only(built: Path, tmp_path: Path) -> None:
    digests = [
        publish(open_store("memory:"), "export", "a", built, {}).digest,
        publish(open_store("memory:"), "binary", "b", built, {"x": 1}).digest,
    ]
    pairs = sorted((name, sha256(data)) for name, data in contents(built).items())
    assert digests == [digest_bytes(canonical(pairs))] * 2
    (built / "model.onnx").rename(built / "renamed.onnx")
    assert publish(open_store("memory:"), "export", "a", built, {}).digest != digests[0]


def test_the_manifest_comes_last(store: Store, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that fails at any earlier point has published nothing."""
    (built / "zz").write_bytes(b"last")
    put = Store.put

    def fails(self: Store, key: str, data: bytes | Path) -> None:
        if isinstance(data, Path) and data.name == "zz":
            raise StoreError("away")
        put(self, key, data)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", fails)
        with pytest.raises(StoreError, match="away"):
            publish(store, "export", KEY, built, {})
    assert find(store, "export", KEY) is None
    assert publish(store, "export", KEY, built, {}) == find(store, "export", KEY)


def test_the_first_artefact_stays(store: Store, built: Path, tmp_path: Path) -> None:
    first = publish(store, "export", KEY, built, {"writer": 1})
    wanted = contents(built)
    (built / "model.onnx").write_bytes(b"another build")
    assert publish(store, "export", KEY, built, {"writer": 2}) == first
    assert contents(fetch(store, first, tmp_path / "cache")) == wanted


def test_rivals_with_different_bytes_get_one_whole_artefact(store: Store, tmp_path: Path) -> None:
    """A build need not be byte-stable: nobody may ever see the files of one under the digests of another."""
    writers = 4
    start = threading.Barrier(writers)
    for number in range(writers):
        folder = tmp_path / f"built-{number}"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"%d" % number * 50_000)
        (folder / "model.onnx.data").write_bytes(b"data %d" % number)

    def write(number: int) -> Artifact:
        start.wait()
        return publish(store, "binary", KEY, tmp_path / f"built-{number}", {"writer": number})

    with ThreadPoolExecutor(writers) as pool:
        published = list(pool.map(write, range(writers)))
    assert all(artifact == published[0] for artifact in published)
    winner = published[0].facts["writer"]
    fetched = fetch(store, published[0], tmp_path / "cache")
    assert contents(fetched) == contents(tmp_path / f"built-{winner}")


def test_empty_folders_and_odd_names_are_programming_errors(store: Store, tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    with pytest.raises(ValueError, match="nothing to publish"):
        publish(store, "export", KEY, tmp_path / "built", {})
    (tmp_path / "built" / "a file").write_bytes(b"")
    with pytest.raises(ValueError, match="not a store key"):
        publish(store, "export", KEY, tmp_path / "built", {})
    with pytest.raises(ValueError, match="no artefact"):
        find(store, "export", "a/b")
    assert store.list() == []


def test_infeasible_is_remembered_and_the_first_record_stays(store: Store, built: Path) -> None:
    assert find_infeasible(store, "binary", KEY) is None
    record_infeasible(store, "binary", KEY, {"reason": "compiler-refused", "log_tail": "no"})
    record_infeasible(store, "binary", KEY, {"reason": "other"})
    assert find_infeasible(store, "binary", KEY) == {"reason": "compiler-refused", "log_tail": "no"}
    assert find(store, "binary", KEY) is None
    made = publish(store, "binary", KEY, built, {})
    assert find(store, "binary", KEY) == made


# --- damage


def damaged(store: Store, artifact: Artifact, cache: Path) -> str:
    forget_verified()
    with pytest.raises(StoreError) as caught:
        fetch(store, artifact, cache)
    assert "Delete" in caught.value.remedy
    assert f"artifacts/export/{KEY}/ and run again" in caught.value.remedy
    return caught.value.message


def test_a_damaged_artefact_is_never_used(store: Store, built: Path, tmp_path: Path) -> None:
    artifact = publish(store, "export", KEY, built, {})
    file = artifact.files["model.onnx.data"]
    whole = store.get(file.object_key)
    for data, fault in (
        (bytes([whole[0] ^ 1]) + whole[1:], "has another digest"),
        (whole[:-1], "has 99999 bytes instead of 100000"),
        (b"", "has 0 bytes"),
    ):
        store.put(file.object_key, data)
        said = damaged(store, artifact, tmp_path / "cache")
        assert f"{store.url}/{file.object_key}" in said
        assert fault in said
        assert not (tmp_path / "cache" / "export" / KEY / artifact.digest[:16]).exists()
    store.put(file.object_key, whole)
    assert contents(fetch(store, artifact, tmp_path / "cache")) == contents(built)


def test_a_missing_file_is_damage(tmp_path: Path, built: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    artifact = publish(store, "export", KEY, built, {})
    (tmp_path / "store" / artifact.files["model.onnx"].object_key).unlink()
    assert "is missing" in damaged(store, artifact, tmp_path / "cache")
    assert "is missing" in damaged(open_store("memory:"), artifact, tmp_path / "cache")


def manifest_of(store: Store) -> dict[str, object]:
    content = json.loads(store.get(f"artifacts/export/{KEY}/manifest.json"))
    assert isinstance(content, dict)
    return content


def test_a_manifest_of_a_newer_aicsweep_says_what_to_do(store: Store, built: Path) -> None:
    publish(store, "export", KEY, built, {})
    newer = manifest_of(store) | {"schema_number": 2, "compression": "zstd"}
    store.put(f"artifacts/export/{KEY}/manifest.json", json.dumps(newer).encode())
    with pytest.raises(DamagedArtifact, match="has schema 2; this aicsweep reads up to 1") as caught:
        find(store, "export", KEY)
    assert "newer aicsweep" in caught.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"files": {}},
        {"files": {"a": {"size_bytes": -1, "sha256": "0" * 64}}},
        {"files": {"a": {"size_bytes": 1, "sha256": "short"}}},
        {"files": {"../../escape": {"size_bytes": 1, "sha256": "0" * 64}}},
        {"facts": None},
        {"schema_number": "1"},
        {"key": "another"},
        {"kind": "binary"},
        None,
    ],
)
def test_a_manifest_that_isnt_understood_is_not_used(change: dict[str, object] | None, built: Path) -> None:
    store = open_store("memory:")
    publish(store, "export", KEY, built, {})
    data = json.dumps(manifest_of(store) | change).encode() if change else b'{"schema_number": 1'
    store.put(f"artifacts/export/{KEY}/manifest.json", data)
    with pytest.raises(StoreError, match=f"memory:/artifacts/export/{KEY}/manifest.json") as caught:
        find(store, "export", KEY)
    assert "Delete" in caught.value.remedy


# --- the cache


def test_a_folder_store_is_used_in_place(tmp_path: Path, built: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    artifact = publish(store, "export", KEY, built, {})
    folder = fetch(store, artifact, tmp_path / "cache")
    assert folder.is_relative_to(tmp_path / "store")
    assert not (tmp_path / "cache").exists()


def cached_in(cache: Path) -> list[str]:
    return sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file())


def test_a_cached_copy_is_used_again_without_the_store(built: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store = open_store("memory:")
    artifact = publish(store, "export", KEY, built, {})
    folder = fetch(store, artifact, cache)
    for _ in range(2):
        assert fetch(open_store("memory:"), artifact, cache) == folder
        forget_verified()
    short = artifact.digest[:16]
    assert cached_in(cache) == [f"export/{KEY}/{short}/{name}" for name in sorted(contents(built))]


@pytest.mark.parametrize("damage", ["bit", "short", "missing"])
def test_a_damaged_cached_copy_is_made_anew(damage: str, built: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store = open_store("memory:")
    artifact = publish(store, "export", KEY, built, {})
    path = fetch(store, artifact, cache) / "model.onnx"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "short" else b"G" + data[1:])
    forget_verified()
    assert contents(fetch(store, artifact, cache)) == contents(built)
    assert len(cached_in(cache)) == len(contents(built))


def test_many_fetch_at_once(store: Store, built: Path, tmp_path: Path) -> None:
    artifact = publish(store, "export", KEY, built, {})
    with ThreadPoolExecutor(6) as pool:
        folders = list(pool.map(lambda _: fetch(store, artifact, tmp_path / "cache"), range(6)))
    assert len(set(folders)) == 1
    assert contents(folders[0]) == contents(built)
    if store.local_path("a") is None:
        assert len(cached_in(tmp_path / "cache")) == len(contents(built))


def test_a_cache_that_cant_be_written_is_said(built: Path, tmp_path: Path) -> None:
    store = open_store("memory:")
    artifact = publish(store, "export", KEY, built, {})
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(StoreError, match="cache") as caught:
        fetch(store, artifact, tmp_path / "cache")
    assert "XDG_CACHE_HOME" in caught.value.remedy
    # Not of the store.
    assert caught.value.reason == "disk"


_PUBLISH = """
import sys, pathlib
from runner.artifacts import publish
from runner.store import open_store
publish(open_store(sys.argv[1]), "export", sys.argv[2], pathlib.Path(sys.argv[3]), {})
"""


def test_a_killed_publisher_leaves_nothing_that_counts(s3_bucket: str, built: Path, tmp_path: Path) -> None:
    with (built / "zz-large").open("wb") as file:
        file.truncate(300 * 1024**2)
    url = f"s3://{s3_bucket}"
    store = open_store(url)
    with subprocess.Popen([sys.executable, "-c", _PUBLISH, url, KEY, str(built)]) as publisher:
        deadline = time.monotonic() + 30
        while not store.list("artifacts") and publisher.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        publisher.send_signal(signal.SIGKILL)
        assert publisher.wait() == -signal.SIGKILL
    assert store.list("artifacts")
    assert find(store, "export", KEY) is None
    (built / "zz-large").write_bytes(b"smaller now")
    artifact = publish(store, "export", KEY, built, {})
    assert contents(fetch(store, artifact, tmp_path / "cache")) == contents(built)
