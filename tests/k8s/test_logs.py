"""Log lines that a collector reads."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from k8s import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    out = io.StringIO()
    logs.set_up("info", out)
    yield out
    root.handlers, root.level = before


def test_a_line_is_an_object_with_what_was_given(stream: io.StringIO) -> None:
    log = logging.getLogger("k8s.test")
    log.info("pass of %s", "a sweep", extra={"sweep": "ns/name", "where": object})
    log.debug("not told")
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told.pop("where")
    assert told == {"level": "info", "logger": "k8s.test", "message": "pass of a sweep", "sweep": "ns/name"}


def test_a_traceback_stays_on_its_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("k8s.test").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["error"]
