"""How long a store that is away is waited for: what counts as its answer, and what a process that ends has left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner import patience, process
from runner.errors import StoreError
from runner.patience import Patience, pause_s
from runner.store import NotFound, Store, open_store
from runner.store_check import check, check_readable
from runner.store_errors import Away
from tests import s3_proxy
from tests.s3_proxy import Proxy


class Clock:
    """The patience's clock, which a pause or a request puts forward, and nothing else does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(patience.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(patience.time, "sleep", self.pass_by)

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def of_a_store(limit_s: float = 900.0) -> Patience:
    return Patience(limit_s, told_s=lambda: 0.0, renew=lambda: None)


def away() -> None:
    raise Away("can't be reached")


def missing() -> None:
    raise NotFound("doesn't exist")


def waited_s(some: Patience, clock: Clock, work: Callable[[], object] = away) -> float:
    """Until it gave a place up that stays away."""
    began_s = clock.now_s
    with pytest.raises(Away):
        some.ask(work)
    return clock.now_s - began_s


def test_a_store_that_never_answered_is_waited_for_a_minute_and_one_that_did_for_long(clock: Clock) -> None:
    some = of_a_store()
    assert 60 <= waited_s(some, clock) < 61
    some.ask(lambda: None)
    assert 900 <= waited_s(some, clock) < 901


def test_that_there_is_no_such_object_is_an_answer(clock: Clock) -> None:
    some = of_a_store()
    with pytest.raises(NotFound):
        some.ask(missing)
    assert 900 <= waited_s(some, clock) < 901


def test_without_waiting_it_is_asked_once_and_its_answer_counts(clock: Clock) -> None:
    some, asked = of_a_store(), []

    def work() -> None:
        asked.append(clock.now_s)
        away()

    with pytest.raises(Away):
        some.ask(work, waiting=False)
    assert len(asked) == 1
    some.ask(lambda: None, waiting=False)
    assert 900 <= waited_s(some, clock) < 901


def test_who_is_asked_to_end_in_an_outage_has_thirty_seconds_from_then_on(clock: Clock) -> None:
    """Not from when the request began: of an outage that was older nothing was left."""
    some = of_a_store()
    some.ask(lambda: None)
    began_s = clock.now_s

    def work() -> None:
        if clock.now_s - began_s >= 100:
            process.stopping.set()
        away()

    assert 130 <= waited_s(some, clock, work) < 130 + 2 * patience.LONGEST_PAUSE_S


def test_what_is_begun_after_that_has_thirty_seconds_too(clock: Clock) -> None:
    some = of_a_store()
    some.ask(lambda: None)
    process.stopping.set()
    assert 30 <= waited_s(some, clock) < 31
    assert 30 <= waited_s(some, clock) < 31


@pytest.fixture
def behind(proxy: Proxy, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of a bucket behind the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    return open_store(f"s3://{s3_bucket}/store")


def fails_often(proxy: Proxy) -> None:
    """More often in a row than obstore tries by itself."""
    already = len(proxy.asked)
    proxy.script = lambda asked: s3_proxy.answer(503, "SlowDown") if asked.number <= already + 8 else None


@pytest.mark.parametrize("first", [check, check_readable])
def test_a_store_that_passed_the_check_has_answered(
    behind: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, first: Callable[[Store], None]
) -> None:
    monkeypatch.setattr(patience, "UNKNOWN_S", 0.0)
    first(behind)
    fails_often(proxy)
    assert behind.list() is not None


def test_a_store_that_never_answered_is_given_up(
    behind: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side of it: here too it is away for no longer."""
    monkeypatch.setattr(patience, "UNKNOWN_S", 0.0)
    fails_often(proxy)
    with pytest.raises(StoreError, match="slow down"):
        behind.list()


def test_pauses_grow_to_a_bound_and_are_no_shorter_than_the_store_says() -> None:
    grown = [pause_s(tries, 0.0, 0.999) for tries in range(1, 200)]
    assert grown == sorted(grown)
    assert grown[0] < 0.21
    assert 19 < grown[-1] <= 20
    assert all(pause_s(tries, 30.0, dice) >= 30 for tries in (1, 50) for dice in (0.0, 0.9))
    assert pause_s(1, 10_000.0, 0.9) < 140
