"""The border to obstore, botocore and the operating system: their errors become StoreError here.

    store, store_places --(foreign error, where, doing)--> `translate` --> StoreError
                                                                          |- NotFound   no such object
                                                                          `- Away       asking again may help
                                                                             `- Expired with other credentials

obstore's texts hold the server's whole answer and a debug dump of the request; none of that
is shown. Only an error number, an S3 error code and a status are taken from them, and decide
the sentence and the remedy.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from runner.errors import StoreError


class NotFound(StoreError):
    """There is no object of this key."""


class Away(StoreError):
    """No answer, or none for now: the same request may go through later."""


class Expired(Away):
    """The credentials were good once: what gives them may have new ones."""


@dataclass(frozen=True)
class Where:
    """What an operation was about, for people: `url` of the store, `key` in it, S3's `endpoint` or ""."""

    url: str
    key: str = ""
    endpoint: str = ""

    def __str__(self) -> str:
        return f"{self.url.rstrip('/')}/{self.key}" if self.key else self.url


# What to do for an error number of the operating system; the sentence itself is `strerror`.
_ERRNO_REMEDIES = {
    errno.ENOSPC: "Free some space there, or name another place with results.url.",
    errno.EDQUOT: "Your disk quota is used up: free some space, or name another place with results.url.",
    errno.EFBIG: "A limit on file sizes is set (see `ulimit -f`): raise it, or use a store elsewhere.",
    errno.EACCES: "Give this user write access to the folder, or name another one with results.url.",
    errno.EPERM: "Give this user write access to the folder, or name another one with results.url.",
    errno.EROFS: "The file system is mounted read-only: name a folder on another one with results.url.",
    errno.ENOTDIR: "A file lies where a folder is needed: remove it, or name another one with results.url.",
    errno.EEXIST: "A file lies where a folder is needed: remove it, or name another one with results.url.",
    errno.EISDIR: "A folder lies where a file is needed: remove it, or name another folder with results.url.",
    errno.ENOENT: "Files can't be made there (is it a special folder such as /proc?): name another folder.",
}

_CHECK_CREDENTIALS = (
    "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; "
    "`aws sts get-caller-identity` shows what is used."
)
_CHECK_REGION = "Set AWS_REGION to the bucket's region."

# S3 error codes -> what is wrong, what to do.
_S3_CODES = {
    "NoSuchBucket": ("the bucket doesn't exist", "Create it (`aws s3 mb`), or correct results.url."),
    "AccessDenied": (
        "access is denied",
        "The credentials need s3:GetObject, s3:PutObject and s3:ListBucket there.",
    ),
    "InvalidAccessKeyId": ("the access key is not known to the store", _CHECK_CREDENTIALS),
    "SignatureDoesNotMatch": ("the secret key is wrong", _CHECK_CREDENTIALS),
    "ExpiredToken": ("the session token has expired", "Sign in again, or renew AWS_SESSION_TOKEN."),
    "ExpiredTokenException": ("the session token has expired", "Sign in again, or renew AWS_SESSION_TOKEN."),
    "TokenRefreshRequired": ("the session token has expired", "Sign in again, or renew AWS_SESSION_TOKEN."),
    "InvalidToken": ("the session token is not valid", "Sign in again, or renew AWS_SESSION_TOKEN."),
    "RequestTimeTooSkewed": ("this host's clock is wrong", "Set the clock; S3 allows 15 minutes."),
    "PermanentRedirect": ("the bucket is in another region", _CHECK_REGION),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _CHECK_REGION),
    "IllegalLocationConstraintException": ("the bucket is in another region", _CHECK_REGION),
    "NotImplemented": (
        "the store can't do conditional writes (If-None-Match)",
        "Without them a result could be overwritten: use a store that has them (AWS S3, MinIO, Ceph, SeaweedFS, R2).",
    ),
    "QuotaExceeded": ("the store's quota is used up", "Raise the quota, or free some space."),
    "XMinioStorageFull": ("the store is full", "Free some space in the store."),
    "SlowDown": ("the store asks to slow down", "Try again later."),
}
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
# Too many requests, and the server's own trouble; 501 and 507 are for good.
_AWAY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

# The same for a status without a code: HEAD has no body, and proxies answer in their own words.
_S3_STATUS_CODES = {
    301: "PermanentRedirect",
    403: "AccessDenied",
    501: "NotImplemented",
    507: "QuotaExceeded",
}

# Certificates and protocols don't mend themselves while one waits.
_FOR_GOOD = frozenset({"UnknownIssuer", "ertificate", "InvalidContentType"})

# What obstore's debug dump says of a request that got no answer -> in words. Most specific first.
_NO_ANSWER = (
    ("ConnectionRefused", "connection refused"),
    ("dns error", "its name can't be resolved"),
    ("UnknownIssuer", "its TLS certificate is signed by an unknown authority"),
    ("ertificate", "its TLS certificate is not accepted"),
    ("InvalidContentType", "it doesn't speak TLS"),
    ("TimedOut", "no answer in time"),
    ("ConnectionReset", "the connection was closed"),
)


def translate(error: Exception, doing: str, where: Where) -> StoreError:
    """The StoreError that a person should see for `error`, met while `doing` (`read`, `write`, `list`)."""
    text = str(error)
    code = _s3_code(text)
    if isinstance(error, FileNotFoundError) and doing == "read" and code != "NoSuchBucket":
        return NotFound(f"{where} doesn't exist")
    number = _errno(error, text)
    if number is not None and not where.endpoint:
        return StoreError(
            f"can't {doing} {where}: {os.strerror(number)}", remedy=_ERRNO_REMEDIES.get(number, "")
        )
    status = _status(text)
    away = Expired if code in _EXPIRED else Away if status in _AWAY_STATUSES else StoreError
    if code in _S3_CODES:
        reason, remedy = _S3_CODES[code]
        return away(f"can't {doing} {where}: {reason}", remedy=remedy)
    if away is not StoreError:
        reason = f"the store is in trouble (status {status}{f', {code}' if code else ''})"
        return away(
            f"can't {doing} {where}: {reason}", remedy="Try again later; the store's log has the cause."
        )
    if "error sending request" in text or "HTTP error" in text:
        mark, words = next((found for found in _NO_ANSWER if found[0] in text), ("", ""))
        return unreachable(where, doing, words, for_good=mark in _FOR_GOOD)
    if type(error).__name__ == "UnauthenticatedError":
        return Expired(f"can't {doing} {where}: no valid credentials", remedy=_CHECK_CREDENTIALS)
    if isinstance(error, FileNotFoundError):
        remedy = "Correct results.url or the endpoint (AWS_ENDPOINT_URL)."
        return StoreError(f"can't {doing} {where}: the store knows no such bucket", remedy=remedy)
    return StoreError(f"can't {doing} {where}: {first_line(text)}")


def unreachable(where: Where, doing: str, reason: str, *, for_good: bool = False) -> StoreError:
    """No answer from the store's endpoint; `reason` in words or "". An Away, unless it is `for_good`."""
    why = f" ({reason})" if reason else ""
    kind = StoreError if for_good else Away
    return kind(
        f"can't {doing} {where}: the endpoint {where.endpoint} can't be reached{why}",
        remedy="Check AWS_ENDPOINT_URL (http or https, host, port), the network, and AWS_CA_BUNDLE.",
    )


def without_userinfo(text: str) -> str:
    """`text` with the `user:password@` of any URL in it taken out."""
    return re.sub(r"//[^/\s@]*@", "//", text)


def first_line(text: str) -> str:
    """What a foreign error says before the server's answer and the debug dump, cut to a line's length."""
    head = re.split(r"Debug source|<\?xml|<Error|<html", text, maxsplit=1)[0]
    return without_userinfo(" ".join(head.split()))[:300]


def _errno(error: Exception, text: str) -> int | None:
    """The operating system's error number; obstore has it only as text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", text)
    return int(found.group(1)) if found else None


def _s3_code(text: str) -> str:
    """S3's error code out of the answer's body, else one that stands for its status, else ""."""
    if found := re.search(r"<Code>(\w+)</Code>", text):
        return found.group(1)
    return _S3_STATUS_CODES.get(_status(text), "")


def _status(text: str) -> int:
    """The answer's HTTP status, or 0."""
    found = re.search(r"status code: (\d{3})", text)
    return int(found.group(1)) if found else 0
