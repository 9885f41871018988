"""The border to the API server: its answers, and the lack of one, become ApiError here.

    ApiError (Infrastructure)
    |- NotFound        there is no such object (any more)
    |- AlreadyExists   the name is taken, by whomever
    |- Conflict        the object changed meanwhile, or is another one of that name: look again
    |- Gone            that version or page can't be served any more: list anew
    |- Forbidden       not allowed, or over a quota: a person must act
    |- Invalid         the server will never take this: a person must act
    `- Unavailable     no answer, or a server in trouble: the same again later
       |- Throttled    ... it asked for less
       `- LoggedOut    ... it does not know who asks

`retry_after_s` is what the server asked for, else 0; `call` is the right that was asked for, if one was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from k8s.resources import Call
from runner.errors import Infrastructure

# A server that asks for more is asked again after this all the same.
MAX_RETRY_AFTER_S = 300.0


class ApiError(Infrastructure):
    """The API server said no, or nothing."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.call: Call | None = None


class NotFound(ApiError):
    """There is no such object."""


class AlreadyExists(ApiError):
    """An object of that name is there already."""


class Conflict(ApiError):
    """The object is not the one, or not in the state, that the request was for."""


class Gone(ApiError):
    """What was asked for is older, or newer, than what the server can go on from."""


class Forbidden(ApiError):
    """The controller may not, or a quota is used up."""


class Invalid(ApiError):
    """The server refuses the content."""


class Unavailable(ApiError):
    """Try again later."""


class Throttled(Unavailable):
    """Try again later, and less."""


class LoggedOut(Unavailable):
    """The credentials are refused. In a cluster the token is renewed within a minute; a person must log in."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: LoggedOut,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    422: Invalid,
    429: Throttled,
}


def translate(
    status: int, doing: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> ApiError:
    """The ApiError for an answer of `status` met while `doing`; `body` is a Status object, or a proxy's words."""
    answer = _status_object(body)
    kind = _BY_STATUS.get(status, Unavailable)
    if answer.get("reason") == "AlreadyExists":
        kind = AlreadyExists
    if _version_too_large(answer):
        kind = Gone
    if status == 422 and not answer.get("details"):
        # A JSON patch whose `test` failed; what fails a schema is told with details.
        kind = Conflict
    words = str(answer.get("message") or "") or body[:200].decode(errors="replace").strip()
    message = f"can't {doing}: {words or 'no reason given'} ({status})"
    return kind(message, retry_after_s=_retry_after_s(headers or {}, answer))


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _version_too_large(answer: Mapping[str, Any]) -> bool:
    """The data behind the server were set back, as after etcd was restored from a copy."""
    causes = (answer.get("details") or {}).get("causes") or []
    return any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes)


def _retry_after_s(headers: Mapping[str, str], answer: Mapping[str, Any]) -> float:
    asked = headers.get("Retry-After") or (answer.get("details") or {}).get("retryAfterSeconds") or 0
    # The other form, a date, is compared with this host's clock, which may be wrong.
    return min(float(asked), MAX_RETRY_AFTER_S) if str(asked).isdecimal() else 0.0
