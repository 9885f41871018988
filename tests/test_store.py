"""One contract for a folder, memory and a real S3 server."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.errors import StoreError
from runner.store import NotFound, Store
from runner.store_check import check
from runner.transfer import download, get_many


def keys_of(store: Store, prefix: str = "") -> list[str]:
    return [listed.key for listed in store.list(prefix)]


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
    assert list(get_many(store, backwards)) == [(key, wanted[key]) for key in backwards]
    assert list(get_many(store, [])) == []


def test_get_many_stops_at_what_is_missing(store: Store) -> None:
    store.put("a", b"x")
    reading = get_many(store, ["a", "none", "a"])
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

    next(get_many(store, keys()))
    assert asked < 100


def test_files_go_up_and_come_down(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(os.urandom(1024) * 20 * 1024)
    store.put("artifacts/model.onnx", source)
    target = tmp_path / "made" / "on" / "demand" / "model.onnx"
    download(store, "artifacts/model.onnx", target)
    assert target.read_bytes() == source.read_bytes()
    assert os.listdir(target.parent) == ["model.onnx"]


def test_a_failed_download_leaves_nothing_and_spares_what_was_there(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "down" / "model.onnx"
    with pytest.raises(NotFound):
        download(store, "none", target)
    assert list(target.parent.iterdir()) == []
    target.write_bytes(b"old")
    with pytest.raises(NotFound):
        download(store, "none", target)
    assert target.read_bytes() == b"old"


def test_uploading_a_file_that_is_not_there_says_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such file") as caught:
        store.put("a", tmp_path / "none")
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
        lambda key: list(get_many(store, [key])),
        lambda key: store.put(key, b"x"),
        lambda key: store.put_new(key, b"x"),
        store.exists,
        store.at,
        lambda key: store.put(key, source),
        lambda key: download(store, key, tmp_path / "target"),
        store.local_path,
    ]
    for key in ODD_KEYS:
        for use in uses:
            with pytest.raises(ValueError, match="not a store key"):
                use(key)
    assert store.list() == []


def test_check_passes_again_and_again_and_keeps_one_object(store: Store) -> None:
    check(store)
    check(store)
    assert keys_of(store) == [".probe/aicsweep"]
