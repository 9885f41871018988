"""What an answer of the API server becomes."""

from __future__ import annotations

import json

import pytest

from k8s import api_errors
from k8s.api_errors import MAX_RETRY_AFTER_S, translate


def status(reason: str = "", **details: object) -> bytes:
    return json.dumps({"kind": "Status", "reason": reason, "message": "why", "details": details}).encode()


TOO_LARGE = {"causes": [{"reason": "ResourceVersionTooLarge"}], "retryAfterSeconds": 1}


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (400, status("BadRequest"), "Invalid"),
        (401, status("Unauthorized"), "LoggedOut"),
        (403, status("Forbidden"), "Forbidden"),
        (404, status("NotFound"), "NotFound"),
        (409, status("AlreadyExists"), "AlreadyExists"),
        (409, status("Conflict"), "Conflict"),
        (410, status("Expired"), "Gone"),
        (413, b"<html>too large</html>", "Invalid"),
        (422, status("Invalid", kind="Job"), "Invalid"),
        # A JSON patch whose test failed.
        (422, status("Invalid"), "Conflict"),
        (429, status("TooManyRequests"), "Throttled"),
        (500, status("InternalError"), "Unavailable"),
        (502, b"<html>bad gateway</html>", "Unavailable"),
        (503, b"", "Unavailable"),
        (504, status("Timeout"), "Unavailable"),
        (504, status("Timeout", **TOO_LARGE), "Gone"),
        (418, b"[]", "Unavailable"),
    ],
)
def test_each_answer_has_one_meaning(code: int, body: bytes, expected: str) -> None:
    error = translate(code, "create jobs a/b", body)
    assert type(error) is getattr(api_errors, expected)
    assert "can't create jobs a/b: " in str(error)
    assert f"({code})" in str(error)


def test_the_servers_words_are_told_and_a_proxys_are_cut() -> None:
    assert "why (409)" in str(translate(409, "x", status("Conflict")))
    assert len(str(translate(502, "x", b"y" * 10_000))) < 300


@pytest.mark.parametrize(
    ("header", "details", "expected"),
    [
        ("7", {}, 7.0),
        ("", {"retryAfterSeconds": 3}, 3.0),
        ("", {}, 0.0),
        ("-5", {}, 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", {}, 0.0),
        ("999999", {}, MAX_RETRY_AFTER_S),
        ("nan", {}, 0.0),
    ],
)
def test_how_long_to_wait_is_what_the_server_asked_for(
    header: str, details: dict[str, object], expected: float
) -> None:
    headers = {"Retry-After": header} if header else {}
    assert translate(429, "x", status("", **details), headers).retry_after_s == expected
