"""`aicsweep run` on a real S3 server behind a proxy that misbehaves. The oracle is the table of an undisturbed run.

A fault strikes at a request that the script picks by what is asked, so a test says exactly when. Outages last a
few seconds; AICSWEEP_TEST_OUTAGE_S=120 makes them as long as in the field.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import engine, tables
from runner.bucket import retry_after_s
from runner.store import Store, open_store
from tests import s3_proxy
from tests.cluster.oracle import results, undisturbed
from tests.pod_tables import GRID, LIMITS
from tests.pods import Program
from tests.s3_proxy import Asked, Do, Proxy, answer
from tests.s3_server import ADMIN_KEY, SECOND_KEY, SECRET_KEY, S3Server

OUTAGE_S = float(os.environ.get("AICSWEEP_TEST_OUTAGE_S", "5"))
LIMIT_S = 120 + 3 * OUTAGE_S
SPEC: dict[str, Any] = {"models": ["resnet50", "mobilenet_v2"], "grid": GRID, "limits": LIMITS}
SLOTS = 12


class Run:
    """`aicsweep run` of a small sweep on the bucket behind the proxy; several may follow each other."""

    def __init__(self, folder: Path, bucket: str, proxy: Proxy) -> None:
        self.proxy, self.url, self.cache = proxy, f"s3://{bucket}/store", folder / "cache"
        self.environment: dict[str, str] = {}
        self.fake: dict[str, Any] = {}
        self._runs = 0
        self._file = folder / "sweep.yaml"
        head = {"apiVersion": "aicsweep.dev/v1alpha1", "kind": "Sweep", "metadata": {"name": "sample"}}
        self._file.write_text(yaml.safe_dump({**head, "spec": {"backend": "fake", **SPEC}}))

    def start(self) -> Program:
        environment = {
            "XDG_CACHE_HOME": str(self.cache), "AWS_ENDPOINT_URL": self.proxy.endpoint,
            "AICSWEEP_FAKE": json.dumps(self.fake), "COLUMNS": "200", **self.environment,
        }  # fmt: skip
        self._runs += 1
        log = self._file.with_name(f"log-{self._runs}")
        return Program(["run", str(self._file), "--store", self.url], environment, log)

    def end(self, program: Program, code: int = 0) -> str:
        """What it said, once it has ended as it should."""
        ended = program.code()
        assert ended == code, program.log
        return program.log

    def go(self, code: int = 0) -> str:
        return self.end(self.start(), code)

    @property
    def home(self) -> Store:
        """The sweep in the store, past the proxy."""
        return open_store(self.url).at("sweeps/local/default/sample/1")

    def is_right(self) -> None:
        """The table is that of an undisturbed run, and nothing is lost or doubled."""
        table, _ = tables.read_current(self.home)
        assert results(table) == undisturbed(**SPEC)
        read = engine.read_results(self.home)
        assert not read.damaged
        slots = read.table["slot"].to_pylist()
        assert len(slots) == len(set(slots)) == SLOTS
        assert not [path for path in self.spooled if path.is_file()]

    @property
    def spooled(self) -> list[Path]:
        return list((self.cache / "aicsweep" / "spool").rglob("*"))


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with s3_proxy.proxying(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def run(tmp_path: Path, s3_bucket: str, proxy: Proxy) -> Run:
    return Run(tmp_path, s3_bucket, proxy)


def of_results(asked: Asked) -> bool:
    return asked.writes and "/results/" in asked.key


def some(asked: Asked) -> bool:
    """Half of all calls, but for the check at the start, which waits for nothing."""
    return ".probe" not in asked.key and random.Random(asked.number).random() < 0.5


class Once:
    """A script that does something to the first request that fits."""

    def __init__(self, fits: Any, do: Do) -> None:
        self.fits, self.do, self.struck = fits, do, 0

    def __call__(self, asked: Asked) -> Do | None:
        if self.struck or not self.fits(asked):
            return None
        self.struck += 1
        return self.do


class Outage:
    """From the first request that fits on the store is away for a while."""

    def __init__(self, fits: Any, seconds: float) -> None:
        self.fits, self.seconds, self.until_s = fits, seconds, 0.0

    def __call__(self, asked: Asked) -> Do | None:
        if not self.until_s and self.fits(asked):
            self.until_s = asked.at_s + self.seconds
        return s3_proxy.cut if asked.at_s < self.until_s else None


def test_away_while_measuring(run: Run) -> None:
    """It goes on measuring meanwhile: all that was to be measured is, long before the store is back."""
    run.fake = {"sleep_s": 0.1}
    run.proxy.script = Outage(of_results, OUTAGE_S)
    said = run.go()
    assert "the store answers again" in said
    measured_last = said.rindex(f"measure {SLOTS}/{SLOTS}")
    assert measured_last < said.index("the store answers again")
    run.is_right()


@pytest.mark.parametrize("where", ["plans", "artifacts/binary", "tables", "current.json"])
def test_away_at_any_other_time(run: Run, where: str) -> None:
    run.proxy.script = Outage(lambda asked: asked.writes and where in asked.key, OUTAGE_S)
    assert "the store answers again" in run.go()
    run.is_right()


def test_trouble_at_half_of_the_calls(run: Run) -> None:
    run.proxy.script = lambda asked: answer(503, "SlowDown") if some(asked) else None
    run.go()
    run.is_right()


def test_slow(run: Run) -> None:
    """Measuring does not wait for it."""
    run.proxy.script = lambda asked: s3_proxy.slow(0.3) if asked.writes else None
    run.go()
    run.is_right()


def test_connections_reset_in_the_middle_of_a_body(run: Run) -> None:
    run.proxy.script = lambda asked: s3_proxy.cut_body if some(asked) else None
    run.go()
    run.is_right()


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


def test_acknowledged_twice(run: Run) -> None:
    """Each write reaches the server twice: of the second it says that the key is taken."""
    run.proxy.script = lambda asked: s3_proxy.twice if asked.writes and ".probe" not in asked.key else None
    run.go()
    run.is_right()


def test_acknowledged_late(run: Run) -> None:
    """Written, and the answer comes when the client has given up and asks again."""
    run.environment["AICSWEEP_STORE_TIMEOUT_S"] = "1"
    scripts = [
        Once(lambda asked, at=at: asked.writes and at in f"/{asked.key}", s3_proxy.late(3))
        for at in ("/plans/", "/results/", "/raw/", "manifest.json", "/current.json")
    ]
    run.proxy.script = lambda asked: next((do for script in scripts if (do := script(asked))), None)
    run.go()
    assert all(script.struck for script in scripts)
    run.is_right()


def test_answers_lost(run: Run) -> None:
    run.proxy.script = lambda asked: s3_proxy.lost if some(asked) and asked.writes else None
    run.go()
    run.is_right()


def test_a_listing_that_changes_while_merging(run: Run) -> None:
    """Between listing and reading, another engine adds a segment of a later measurement, and somebody deletes one
    that was a copy."""
    run.go()
    (key, *_) = [entry.key for entry in run.home.list("results")]
    folder, _, name = key.rpartition("/")
    data = run.home.get(key)
    run.home.put(f"{folder}/copy-{name}", data)
    bucket = run.url.removeprefix("s3://").partition("/")[0]

    def change() -> None:
        run.home.put(f"{folder}/other-{name}", data)
        delete(bucket, f"store/sweeps/local/default/sample/1/{folder}/copy-{name}")

    script = Once(lambda asked: asked.listing and asked.key.endswith("results/"), s3_proxy.then(change))
    run.proxy.script = script
    run.go()
    assert script.struck
    table, _ = tables.read_current(run.home)
    assert results(table) == undisturbed(**SPEC)


def delete(bucket: str, key: str) -> None:
    import boto3

    boto3.client("s3").delete_object(Bucket=bucket, Key=key)


def test_retry_after_is_honoured(run: Run) -> None:
    """After its quick tries nothing asks again before the store said."""
    struck: list[float] = []

    def script(asked: Asked) -> Do | None:
        if of_results(asked) and not struck:
            struck.append(asked.at_s)
        return answer(503, "SlowDown", retry_after_s=4) if struck and asked.at_s < struck[0] + 4 else None

    run.proxy.script = script
    run.go()
    after = [asked for asked in run.proxy.asked if asked.at_s >= struck[0]]
    (probe,) = [asked for asked in after if asked.method == "HEAD"]
    assert not [asked for asked in after if probe.at_s < asked.at_s < probe.at_s + 4]
    run.is_right()


def test_interrupted_while_the_store_is_away(run: Run) -> None:
    """Twice, the second time while it still tries. What was measured lies on this host and is uploaded by the next
    run: it is not measured again."""
    run.fake = {"sleep_s": 0.2}
    run.proxy.script = Outage(of_results, 10_000)
    program = run.start()
    program.wait_for(f"measure 5/{SLOTS}")
    program.signal(signal.SIGINT)
    program.wait_for("s more")
    program.signal(signal.SIGINT)
    said = run.end(program, code=130)
    assert "the next run on this host uploads them" in said
    assert [path for path in run.spooled if path.is_file()]
    run.proxy.script = lambda asked: None
    assert "that an earlier run left" in run.go()
    run.is_right()


def test_killed_while_the_store_is_away(run: Run) -> None:
    run.fake = {"sleep_s": 0.2}
    run.proxy.script = Outage(of_results, 10_000)
    program = run.start()
    program.wait_for(f"measure 5/{SLOTS}")
    program.signal(signal.SIGKILL)
    run.end(program, code=-9)
    left = [path for path in run.spooled if path.is_file()]
    assert left
    run.proxy.script = lambda asked: None
    said = run.go()
    assert f"{len(left)} file" in said
    run.is_right()


def test_a_store_that_stays_away_is_given_up(run: Run) -> None:
    run.environment["AICSWEEP_STORE_PATIENCE_S"] = "3"
    run.proxy.script = Outage(of_results, 10_000)
    said = run.go(code=3)
    assert "can't be reached" in said
    assert str(run.cache) in said
    run.proxy.script = lambda asked: None
    run.go()
    run.is_right()


def test_a_flipped_bit_is_met_before_it_counts(run: Run) -> None:
    """On its way here: of an artefact, a plan or a result. On its way there the signature holds the digest."""
    run.go()
    run.proxy.script = Once(lambda asked: not asked.writes and "/results/" in asked.key, s3_proxy.flipped)
    run.go()
    run.is_right()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3), ("0", 0), ("", 0), ("soon", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90), ("-5", 0)],
)
def test_retry_after_is_read_as_seconds_or_a_date(text: str, seconds: float) -> None:
    assert retry_after_s(text, 10.0) == seconds
