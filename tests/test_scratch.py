"""Scratch folders go with the work, and those of killed processes with the next process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from runner import scratch
from runner.errors import Infrastructure

# Makes a folder, says where, and holds it until it is ended.
HOLDER = """
import sys
from runner import scratch
with scratch.temporary() as folder:
    (folder / "made").write_text("something")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this process, in which it has made nothing yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch._remove_litter.cache_clear()
    return tmp_path


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    hour_ago = time.time() - 3600
    os.utime(folder, (hour_ago, hour_ago))
    return process, folder


def test_a_folder_goes_with_the_work(place: Path) -> None:
    with scratch.temporary() as folder:
        (folder / "made").write_text("something")
    assert not folder.exists()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(place: Path) -> None:
    (dead, left), (alive, used) = holder(place), holder(place)
    try:
        dead.kill()
        dead.wait()
        assert left.exists()
        with scratch.temporary():
            assert not left.exists()
            assert (used / "made").exists()
    finally:
        alive.communicate("")
    assert list(place.iterdir()) == []


def test_a_folder_that_is_just_being_made_stays(place: Path) -> None:
    fresh = place / "aicsweep-scratch-new"
    fresh.mkdir()
    with scratch.temporary():
        assert fresh.exists()


def test_what_is_not_a_folder_of_ours_stays(place: Path) -> None:
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    os.utime(elsewhere, (0, 0))
    (place / "aicsweep-scratch-link").symlink_to(elsewhere)
    with scratch.temporary():
        pass
    assert (elsewhere / "kept").exists()


def test_no_room_for_one_is_the_hosts_fault(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "nowhere"))
    with pytest.raises(Infrastructure, match="can't be written") as caught, scratch.temporary():
        pass
    assert caught.value.reason == "disk"
