"""The cache is like the server's objects, whatever was read and written in whatever order."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

from k8s import prune
from k8s.api import Object
from k8s.watch import Cache, key_of
from tests.k8s.test_prune import job as job_of_a_sweep


def job(name: str, version: int = 0, owner: str = "", **more: Any) -> Object:
    metadata: Object = {"namespace": "a", "name": name, "uid": f"uid-{name}", "labels": {"who": "us"}, **more}
    if version:
        metadata["resourceVersion"] = str(version)
    if owner:
        metadata["ownerReferences"] = [{"kind": "Sweep", "name": f"sweep-{owner}", "uid": owner}]
    return {"metadata": metadata, "spec": {}, "status": {}}


def same(found: Object) -> Object:
    return found


def names_in(cache: Cache) -> set[str]:
    return {found["metadata"]["name"] for found in cache}


def test_children_are_found_by_the_uid_of_their_owner_in_the_order_of_names() -> None:
    cache = Cache(same)
    for found in (job("b", 1, "s1"), job("a", 2, "s1"), job("c", 3, "s2"), job("d", 4)):
        cache.seen("ADDED", found)
    assert [found["metadata"]["name"] for found in cache.owned_by("s1")] == ["a", "b"]
    assert cache.owned_by("nobody") == []
    cache.seen("DELETED", job("a", 5, "s1"))
    assert [found["metadata"]["name"] for found in cache.owned_by("s1")] == ["b"]
    cache.seen("MODIFIED", job("b", 6, "s2"))
    assert cache.owned_by("s1") == []
    assert len(cache) == 3


def test_what_was_written_is_read_until_newer_comes() -> None:
    cache = Cache(same)
    cache.put(job("a", 7, owner="s1"))
    cache.seen("ADDED", job("a", 5))
    cache.seen("DELETED", job("a", 6))
    assert cache.owned_by("s1")[0]["metadata"]["resourceVersion"] == "7"
    cache.seen("MODIFIED", job("a", 8, owner="s1"))
    assert cache.owned_by("s1")[0]["metadata"]["resourceVersion"] == "8"
    cache.seen("DELETED", job("a", 9))
    assert len(cache) == 0


def test_an_answer_that_comes_late_undoes_nothing() -> None:
    """Others have changed the object by then, or deleted it: what the watch has told once is not told again."""
    cache = Cache(same)
    cache.seen("ADDED", job("changed", 1))
    cache.seen("ADDED", job("deleted", 2, owner="s1"))
    cache.seen("MODIFIED", job("changed", 5))
    cache.seen("DELETED", job("deleted", 6))
    for late in (job("changed", 3), job("deleted", 4, owner="s1")):
        cache.put(late)
    assert names_in(cache) == {"changed"}
    assert cache.get(("a", "changed"))["metadata"]["resourceVersion"] == "5"  # type: ignore[index]
    # Of another namespace another watch may be told later.
    cache.put(job("other", 4, namespace="b"))
    assert cache.get(("b", "other"))


async def test_versions_that_went_back_are_taken_from_the_next_list_on() -> None:
    """etcd was restored from a copy."""
    cache = Cache(same)
    cache.seen("ADDED", job("a", 500))
    await listed(job("a", 9), version="12", cache=cache)
    cache.put(job("a", 13))
    assert cache.get(("a", "a"))["metadata"]["resourceVersion"] == "13"  # type: ignore[index]
    cache.put(job("gone since", 11))
    assert names_in(cache) == {"a"}


async def listed(*found: Object, version: str, meanwhile: Object | None = None, cache: Cache) -> list[str]:
    """A list in pages of one, with a write after the first; the names of what changed."""

    async def pages() -> AsyncIterator[tuple[list[Object], str]]:
        for number, each in enumerate(found):
            yield [each], version
            if meanwhile and not number:
                cache.put(meanwhile)

    changed, listed_at = await cache.replace(pages())
    assert listed_at == version
    return sorted(each["metadata"]["name"] for each in changed)


async def test_a_list_that_began_before_a_write_does_not_undo_it() -> None:
    for new in ("new", "changed"):
        cache = Cache(same)
        await listed(job("changed", 8), version="8", cache=cache)
        old = job("changed", 9), job("other", 10)
        changed = await listed(*old, version="11", meanwhile=job(new, 13, owner="s1"), cache=cache)
        assert names_in(cache) == {"changed", "other", new}
        assert cache.get(("a", new))["metadata"]["resourceVersion"] == "13"  # type: ignore[index]
        assert len(cache.owned_by("s1")) == 1
        assert "other" in changed


async def test_a_list_that_is_newer_than_a_write_knows_better() -> None:
    cache = Cache(same)
    await listed(job("a", 9), job("b", 9), version="12", meanwhile=job("deleted since", 10), cache=cache)
    assert names_in(cache) == {"a", "b"}
    await listed(job("a", 15), job("b", 9), version="16", meanwhile=job("a", 14), cache=cache)
    assert cache.get(("a", "a"))["metadata"]["resourceVersion"] == "15"  # type: ignore[index]


async def test_a_list_of_one_namespace_says_nothing_of_another() -> None:
    cache = Cache(same)
    for namespace in ("a", "b"):
        cache.put(job("old", 3, owner="s1", namespace=namespace))

    async def pages() -> AsyncIterator[tuple[list[Object], str]]:
        yield [job("other", 4, owner="s1")], "5"

    changed, _ = await cache.replace(pages(), "a")
    assert {key_of(found) for found in changed} == {("a", "old"), ("a", "other")}
    assert cache.keys() == [("b", "old"), ("a", "other")]
    assert len(cache.owned_by("s1")) == 2

    async def slow() -> AsyncIterator[tuple[list[Object], str]]:
        cache.put(job("new", 9, owner="s1", namespace="b"))
        await cache.replace(pages(), "a")
        yield [], "5"

    # What was put during its list stays, though the list of another one began since.
    await cache.replace(slow(), "b")
    assert cache.keys() == [("a", "other"), ("b", "new")]


async def test_a_list_takes_away_what_is_gone_even_if_it_looked_newer() -> None:
    """etcd restored from a copy of yesterday: versions go back."""
    cache = Cache(same)
    cache.put(job("a", 900, owner="s1"))
    cache.put(job("b", 901))
    changed = await listed(job("a", 300, owner="s2"), version="400", cache=cache)
    assert names_in(cache) == {"a"}
    assert cache.owned_by("s1") == []
    assert len(cache.owned_by("s2")) == 1
    assert changed == ["a", "b"]


async def test_an_unchanged_object_is_not_news() -> None:
    cache = Cache(same)
    assert await listed(job("a", 1), job("b", 2), version="3", cache=cache) == ["a", "b"]
    assert await listed(job("a", 1), job("b", 2), version="4", cache=cache) == []
    assert await listed(job("a", 1), job("b", 5), version="6", cache=cache) == ["b"]
    # Another one of that name, whatever its version.
    assert await listed(job("a", 1, uid="u"), job("b", 5), version="7", cache=cache) == ["a"]


def test_whoever_reads_an_object_may_do_with_it_what_they_like() -> None:
    cache = Cache(same)
    cache.put(job("a", 1, owner="s1"))
    for found in (cache.get(("a", "a")), *cache.owned_by("s1"), *cache):
        assert found is not None
        found["metadata"].clear()
    assert cache.get(("a", "a"))["metadata"]["name"] == "a"  # type: ignore[index]


def test_a_thousand_jobs_take_little_memory() -> None:
    cache = Cache(prune.job)
    tracemalloc.start()
    try:
        for number in range(1000):
            found = job_of_a_sweep(number)
            found["metadata"]["name"] += str(number)
            cache.seen("ADDED", found)
        del found
        assert tracemalloc.get_traced_memory()[0] / 1000 < 2048
    finally:
        tracemalloc.stop()
    assert len(cache) == 1000


def test_what_is_kept_is_pruned() -> None:
    cache = Cache(lambda found: {"metadata": found["metadata"]})
    cache.seen("ADDED", job("a", 1))
    cache.put(job("b", 2))
    assert all("spec" not in found for found in cache)


def test_the_key_of_what_has_no_namespace() -> None:
    assert key_of({"metadata": {"name": "n"}}) == ("", "n")
