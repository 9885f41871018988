"""What the recorder keeps, whatever happens while it writes."""

import itertools
import time

import pytest

from runner import engine, measure
from runner.errors import StoreError
from runner.measure import Recorder
from runner.store import Store, open_store
from tests.test_merge import ok
from tests.test_plan import planned


@pytest.fixture
def home():
    return open_store("memory:")


def recorder(home, writer="w"):
    return Recorder(home, planned(), 0, writer, {})


def slots(home):
    return sorted(engine.read_results(home).table["slot"].to_pylist())


def test_recorders_of_one_writer_never_share_a_name(home):
    with recorder(home) as first, recorder(home) as second:
        for number in range(3):
            first.add(ok(f"a{number}"))
            second.add(ok(f"b{number}"))
            first.flush()
            second.flush()
    assert slots(home) == ["a0", "a1", "a2", "b0", "b1", "b2"]


@pytest.mark.parametrize("written", [True, False])
def test_an_interruption_while_the_last_segment_is_written_loses_and_doubles_nothing(
    home, monkeypatch, written
):
    put_new, calls = Store.put_new, itertools.count()

    def interrupted(self, key, data):
        if next(calls) == 0:
            if written:
                put_new(self, key, data)
            raise KeyboardInterrupt
        return put_new(self, key, data)

    monkeypatch.setattr(Store, "put_new", interrupted)
    with pytest.raises(KeyboardInterrupt), recorder(home) as some:
        some.add(ok("a"))
    assert slots(home) == ["a"]


def test_a_foreign_object_in_our_place_is_an_error_and_no_loss(home, monkeypatch):
    monkeypatch.setattr(measure, "_numbers", itertools.count(7))
    with recorder(home) as some:
        some.add(ok("a"))
    monkeypatch.setattr(measure, "_numbers", itertools.count(7))
    with pytest.raises(StoreError, match="is not ours"), recorder(home) as another:
        another.add(ok("b"))


def test_what_is_older_than_the_limit_is_written_before_the_next_task(home, monkeypatch):
    with recorder(home) as some:
        some.add(ok("a"))
        some.flush_if_due()
        assert slots(home) == []
        later = time.monotonic() + measure.FLUSH_S
        monkeypatch.setattr(time, "monotonic", lambda: later)
        some.flush_if_due()
        assert slots(home) == ["a"]
