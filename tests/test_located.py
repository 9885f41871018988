"""Which store a path means, and which sweeps in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.store import Store, open_store
from runner.stored import located, sweep_folders
from runner.verify import verify
from tests.samples import Silent


def test_a_path_is_a_store_a_sweeps_folder_or_what_holds_several(finished: Store, tmp_path: Path) -> None:
    (prefix,) = sweep_folders(finished)
    for path in ("", f"/{prefix}", f"/{prefix}/", "/sweeps/local", "/sweeps"):
        store, found = located(f"{tmp_path}/copy{path}")
        assert (store.url, found) == (finished.url, [prefix])
    assert located(str(tmp_path / "nowhere"))[1] == []


def test_a_store_may_lie_below_a_folder_that_is_called_sweeps(
    tmp_path: Path, finished_objects: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sweeps/q3", "sweeps/sweeps"):
        store = open_store(str(tmp_path / name))
        for key, data in finished_objects.items():
            store.put(key, data)
        (prefix,) = sweep_folders(store)
        for path in (store.url, f"{store.url}/{prefix}"):
            found, prefixes = located(path)
            assert (found.url, prefixes) == (store.url, [prefix]), path
    monkeypatch.chdir(store.url)
    found, prefixes = located(prefix)
    assert prefixes == [prefix]
    assert verify(found, prefix, Silent()).proven


def test_of_two_readings_of_a_path_the_store_is_meant(
    tmp_path: Path, finished_objects: dict[str, bytes]
) -> None:
    """A sweep called `plans` makes its namespace look as the folder of a sweep in a store that lies higher."""
    store = open_store(str(tmp_path / "sweeps" / "q3"))
    for key, data in finished_objects.items():
        store.put(key.replace("/sample/", "/plans/"), data)
    found, prefixes = located(store.url)
    assert (found.url, prefixes) == (store.url, ["sweeps/local/default/plans/1"])


@pytest.mark.parametrize("part", range(4))
def test_a_cluster_or_a_sweep_may_be_called_sweeps(
    tmp_path: Path, finished_objects: dict[str, bytes], part: int
) -> None:
    store = open_store(str(tmp_path / "store"))
    names = ["local", "default", "sample", "1"]
    names[part] = "sweeps"
    for key, data in finished_objects.items():
        store.put(key.replace("sweeps/local/default/sample/1", "/".join(["sweeps", *names])), data)
    for depth in range(5):
        path = "/".join([store.url, "sweeps", *names[:depth]])
        found, prefixes = located(path)
        assert (found.url, prefixes) == (store.url, ["/".join(["sweeps", *names])]), path
