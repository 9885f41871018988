import contextlib

import pytest

from runner import inflight
from runner.errors import BadInput, Interrupted, PointFailed, StoreError
from runner.store import open_store


@pytest.fixture
def home():
    return open_store("memory:")


class Killed(BaseException):
    """Ends a process before it can do anything more."""


def attempt(home, pod, *items, dies_at="", stops_at="", fails=None):
    """An attempt at `items` in its order; what it did."""
    done = []
    with inflight.begin(home, "p", "00001", pod) as current:
        for item in current.in_order(items, str):
            with current.flying(item):
                if item == dies_at:
                    raise Killed
                if item == stops_at:
                    raise KeyboardInterrupt
                done.append(item)
        if fails:
            raise fails
    return done


def fails_then_dies(home, pod):
    with inflight.begin(home, "p", "00001", pod) as current:
        with contextlib.suppress(PointFailed), current.flying("b"):
            raise PointFailed("compile", "compile-error", "no such operator")
        raise Killed


def test_what_failed_in_order_is_not_what_an_attempt_died_with(home):
    """A compiler's error, and the death of something else after it."""
    with pytest.raises(Killed):
        attempt(home, "pod-1", "a", dies_at="a")
    for pod in ("pod-2", "pod-3"):
        with pytest.raises(Killed):
            fails_then_dies(home, pod)
    assert seen(home)[:2] == (0, None)
    assert inflight.deadly(home, "p") == {}


def names(home):
    return {entry.key.removeprefix("inflight/p/00001/") for entry in home.list("inflight")}


def seen(home, item="b"):
    with inflight.begin(home, "p", "00001", "observer") as current:
        return current.deaths(item), current.verdict(item, "run"), current.in_order(["a", "b", "c"], str)


def test_an_undisturbed_attempt_writes_one_marker(home):
    assert attempt(home, "pod-1", "a", "b") == ["a", "b"]
    assert names(home) == {"pod-1.begun"}


def test_two_marked_deaths_condemn_an_item_and_nothing_else(home):
    for pod in ("pod-1", "pod-2"):
        with pytest.raises(Killed):
            attempt(home, pod, "a", "b", "c", dies_at="b")
        # The first death left no marker: nobody knew that one was needed.
        assert seen(home)[1] is None
        assert inflight.deadly(home, "p") == {}
    with pytest.raises(Killed):
        attempt(home, "pod-3", "a", "b", "c", dies_at="b")
    deaths, verdict, order = seen(home)
    assert (deaths, order) == (2, ["a", "c", "b"])
    assert (verdict.verdict, verdict.stage, verdict.reason) == ("failed", "run", "killed")
    assert inflight.deadly(home, "p") == {"b": 2}
    assert seen(home, "a")[:2] == (0, None)


def test_what_was_in_flight_comes_last(home):
    with pytest.raises(KeyboardInterrupt):
        attempt(home, "pod-1", "a", "b", "c", stops_at="b")
    assert attempt(home, "pod-2", "a", "b", "c") == ["a", "c", "b"]


@pytest.mark.parametrize(
    "error", [Interrupted("stop"), StoreError("away"), BadInput([]), KeyboardInterrupt()]
)
def test_an_end_in_order_is_no_death(home, error):
    for pod in ("pod-1", "pod-2", "pod-3"):
        with pytest.raises(type(error)):
            attempt(home, pod, "a", "b", fails=error)
    with inflight.begin(home, "p", "00001", "pod-4") as current:
        assert current.earlier == {"pod-1", "pod-2", "pod-3"}
        assert not current.careful


def test_interruptions_of_an_item_are_no_deaths_however_many(home):
    with pytest.raises(Killed):
        attempt(home, "pod-0", "a", "b", dies_at="a")
    for pod in ("pod-1", "pod-2", "pod-3"):
        with pytest.raises(KeyboardInterrupt):
            attempt(home, pod, "a", "b", stops_at="b")
    assert seen(home)[:2] == (0, None)


def test_a_careful_attempt_that_ends_well_condemns_nothing_it_did(home):
    with pytest.raises(Killed):
        attempt(home, "pod-0", "a", "b", dies_at="b")
    for pod in ("pod-1", "pod-2"):
        attempt(home, pod, "a", "b")
    assert inflight.deadly(home, "p") == {}


def test_a_store_that_is_away_at_the_end_hides_no_error(home, monkeypatch):
    def away(self, key, data):
        raise StoreError("away")

    current = inflight.begin(home, "p", "00001", "pod-1")
    monkeypatch.setattr(type(home), "put_new", away)
    with pytest.raises(BadInput), current:
        raise BadInput([])


def test_without_a_store_nothing_is_marked():
    with inflight.Attempt() as only, only.flying("a"):
        assert not only.careful
        assert only.verdict("a", "run") is None
