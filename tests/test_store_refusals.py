"""`aicsweep run` where the store refuses us: for good, or until there are other credentials."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from tests.s3_proxy import Asked, Do, answer
from tests.s3_runs import Run, of_results
from tests.s3_server import ADMIN_KEY, SECOND_KEY, SECRET_KEY


@pytest.mark.parametrize("where", ["/results/", "/raw/", "artifacts/binary", "/tables/"])
def test_forbidden_on_one_prefix(run: Run, where: str) -> None:
    """Ends at once, says what to do, and where results lie; once that is mended they are uploaded, not measured
    again."""
    run.proxy.script = lambda asked: (
        answer(403, "AccessDenied") if asked.writes and where in f"/{asked.key}" else None
    )
    said = run.go(code=3)
    assert "access is denied" in said
    assert "s3:PutObject" in said
    kept = [path for path in run.spooled if "results" in path.parts and path.is_file()]
    assert bool(kept) == (where in ("/results/", "/raw/"))
    if kept:
        assert str(kept[0]).partition("/results/")[0] in said
    run.proxy.script = lambda asked: None
    said = run.go()
    assert ("that an earlier run left" in said) == bool(kept)
    run.is_right()


def test_credentials_that_expire_are_renewed(run: Run, tmp_path: Path) -> None:
    """Asked of `credential_process`, which says once that its first key is good for long: the store knows better."""
    keys = tmp_path / "keys"
    keys.write_text(f"{ADMIN_KEY}\n{SECOND_KEY}\n")
    program = tmp_path / "credentials.py"
    program.write_text(
        "import json, pathlib, time\n"
        f"path = pathlib.Path({str(keys)!r}); key, *more = path.read_text().split()\n"
        "path.write_text('\\n'.join(more or [key]))\n"
        "ends = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 3600))\n"
        f"print(json.dumps({{'Version': 1, 'AccessKeyId': key, 'SecretAccessKey': {SECRET_KEY!r},"
        " 'Expiration': ends}))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        run.environment[name] = ""
    run.environment["AWS_CONFIG_FILE"] = str(config)
    expired = threading.Event()

    def script(asked: Asked) -> Do | None:
        if of_results(asked):
            expired.set()
        old = asked.access_key != SECOND_KEY
        return answer(400, "ExpiredToken") if expired.is_set() and old else None

    # The check and the run each ask for credentials.
    keys.write_text(f"{ADMIN_KEY}\n{ADMIN_KEY}\n{SECOND_KEY}\n")
    run.proxy.script = script
    assert "has expired" in run.go()
    run.is_right()
    assert {asked.access_key for asked in run.proxy.asked} == {ADMIN_KEY, SECOND_KEY}
