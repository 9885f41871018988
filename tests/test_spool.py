"""What waits on this host's disk for the store: bounded, never dropped, found again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import process, spool
from runner.errors import BadInput, Interrupted, StoreError
from runner.result import SEGMENT_SUFFIX, encode_segment
from runner.spool import Spool
from runner.store import Store, open_store


@pytest.fixture
def home(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = open_store(f"s3://{s3_bucket}/home")
    assert store.list() == []
    return store


class Gate:
    """The store takes nothing until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        keep = Store.keep

        def gated(store: Store, key: str, data: bytes) -> None:
            self.open.wait(30)
            keep(store, key, data)

        monkeypatch.setattr(Store, "keep", gated)


def silent(text: str) -> None:
    pass


def eventually(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_is_in_the_store_at_the_end_and_nothing_is_left_on_disk(home: Store) -> None:
    with Spool(home, silent) as some:
        for number in range(20):
            some.keep(f"results/p/{number:05d}/w-0", b"%d" % number)
    assert [entry.key for entry in home.list()] == [f"results/p/{number:05d}/w-0" for number in range(20)]
    assert not some.folder.exists()


def test_a_full_spool_takes_over_at_once_and_who_measures_waits_for_room(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what was measured is on disk whatever happens to who waits."""
    monkeypatch.setenv("AICSWEEP_SPOOL_MIB", "1")
    gate, said = Gate(monkeypatch), []
    with Spool(home, said.append) as some:
        some.keep("a/0", bytes(400_000))
        some.wait_for_room()
        assert not said
        for number in range(1, 5):
            some.keep(f"a/{number}", bytes(400_000))
        assert some.is_full
        assert [(some.folder / f"a/{number}").stat().st_size for number in range(5)] == [400_000] * 5
        waiting = threading.Thread(target=some.wait_for_room)
        waiting.start()
        eventually(lambda: bool(said))
        assert "is full" in said[0]
        assert waiting.is_alive()
        gate.open.set()
        waiting.join(30)
        assert not waiting.is_alive()
    assert len(home.list("a")) == 5


def test_who_waits_for_room_is_interrupted(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICSWEEP_SPOOL_MIB", "0.1")
    gate = Gate(monkeypatch)
    with Spool(home, silent) as some:
        some.keep("a", bytes(400_000))
        process.stopping.set()
        with pytest.raises(Interrupted):
            some.wait_for_room()
        gate.open.set()
    assert home.exists("a")


def test_one_that_is_larger_than_the_limit_goes_through_alone(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICSWEEP_SPOOL_MIB", "0.1")
    with Spool(home, silent) as some:
        for number in range(2):
            some.keep(f"a/{number}", bytes(400_000))
            some.wait_for_room()
            assert home.exists(f"a/{number}")
    assert len(home.list("a")) == 2


def test_settling_waits_until_the_store_has_it(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    with Spool(home, silent) as some:
        some.keep("a", b"x")
        assert some.settle(0.1) is False
        gate.open.set()
        assert some.settle() is True
        assert home.get("a") == b"x"


def test_an_upload_that_fails_for_good_is_a_failure_that_says_where_all_lies(home: Store) -> None:
    home.put("a", b"another writer's")
    with pytest.raises(StoreError, match="is not ours") as caught, Spool(home, silent) as some:
        some.keep("a", b"x")
    assert str(some.folder) in caught.value.remedy
    assert (some.folder / "a").read_bytes() == b"x"
    with pytest.raises(StoreError, match="is not ours"):
        spool.adopt(home, silent)
    home.delete(["a"])
    spool.adopt(home, silent)
    assert home.get("a") == b"x"
    assert not some.folder.exists()


def test_a_disk_that_takes_nothing_is_gone_round(home: Store, tmp_path: Path) -> None:
    """Here a file lies where the folder should be: root can write anywhere else."""
    (tmp_path / "cache" / "aicsweep").mkdir(parents=True)
    (tmp_path / "cache" / "aicsweep" / "spool").write_text("in the way")
    said: list[str] = []
    with Spool(home, said.append) as some:
        some.keep("a", b"x")
        assert home.get("a") == b"x"
    assert "straight to the store" in said[0]


def test_half_a_file_of_a_killed_process_is_left_alone(home: Store) -> None:
    folder = spool.folder_of(home)
    folder.mkdir(parents=True)
    (folder / "a#1234").write_bytes(b"ha")
    (folder / "b").write_bytes(b"whole")
    spool.adopt(home, silent)
    assert [entry.key for entry in home.list()] == ["b"]


def test_two_that_upload_the_same_do_no_harm(home: Store) -> None:
    folder = spool.folder_of(home)
    folder.mkdir(parents=True)
    for number in range(30):
        (folder / f"a{number}").write_bytes(b"%d" % number)
    threads = [threading.Thread(target=spool.adopt, args=(home, silent)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(home.list()) == 30
    assert not folder.exists()


def test_stores_don_t_share_a_folder(home: Store, tmp_path: Path) -> None:
    assert spool.folder_of(home) != spool.folder_of(home.at("another"))
    folder = open_store(str(tmp_path / "store"))
    with spool.opened(folder, silent) as some:
        assert some is None


@pytest.mark.parametrize("text", ["0", "-1", "much", "nan", "inf"])
def test_a_limit_that_is_none_is_bad_input(home: Store, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICSWEEP_SPOOL_MIB", text)
    with pytest.raises(BadInput, match="AICSWEEP_SPOOL_MIB"):
        Spool(home, silent)


def test_what_comes_after_an_upload_failed_for_good_is_kept_on_disk_too(
    home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: Store, key: str, data: bytes) -> None:
        raise StoreError("access is denied")

    monkeypatch.setattr(Store, "keep", refuse)
    some = Spool(home, silent)
    some.keep("raw/p/00000/w-0", b"samples")
    eventually(lambda: some._failure is not None)
    with pytest.raises(StoreError, match="2 files of results"):
        some.keep("results/p/00000/w-0", b"results")
    assert (some.folder / "results/p/00000/w-0").read_bytes() == b"results"


def test_a_file_has_its_content_before_its_name(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the disk, for a power cut; what the disk got can only be seen by the calls."""
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append(f"{os.fstat(descriptor).st_size} bytes are on the disk")
        fsync(descriptor)

    def named(path: Path, target: Path) -> Path:
        order.append(f"{target.name} is their name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", named)
    with Spool(home, silent) as some:
        some.keep("a", b"result")
    assert order == ["6 bytes are on the disk", "a is their name"]


@pytest.mark.parametrize("damage", [b"", b"half a segm", encode_segment({}, [])[:-1]])
def test_a_segment_that_nobody_could_read_is_set_aside_with_a_word(home: Store, damage: bytes) -> None:
    """As a power cut left it; in the store it would be damage that no run mends."""
    folder, whole = spool.folder_of(home), encode_segment({"writer": "w"}, [])
    for name, data in (("w-0", damage), ("w-1", whole)):
        (folder / "results/p").mkdir(parents=True, exist_ok=True)
        (folder / f"results/p/{name}{SEGMENT_SUFFIX}").write_bytes(data)
    said: list[str] = []
    spool.adopt(home, said.append)
    assert [entry.key for entry in home.list()] == [f"results/p/w-1{SEGMENT_SUFFIX}"]
    (aside,) = [path for path in folder.rglob("*") if path.is_file()]
    assert aside.read_bytes() == damage
    assert str(aside) in said[-1]
    assert "damaged segment" in said[-1]
    spool.adopt(home, said.append)
    assert len(said) == 2
