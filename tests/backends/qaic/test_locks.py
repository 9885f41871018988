"""One aicsweep on a card at a time, told who holds it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runner.backends.qaic import locks
from runner.errors import Infrastructure


def test_a_lock_held_elsewhere_is_waited_for_shortly_and_its_holder_named() -> None:
    code = (
        "import sys; from runner.backends.qaic import locks\n"
        "with locks.held('card-A', 'card 0', limit_s=1): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(Infrastructure, match=rf"card 0 is in use by .*\(process {other.pid}\)") as caught,
            locks.held("card-A", "card 0", limit_s=0.0),
        ):
            pass
        assert caught.value.reason == "device-locked"
        assert locks.holder("card-A") == str(other.pid)
        with locks.held("card-B", "card 1", limit_s=0.0):
            pass
        other.stdin.close()
    with locks.held("card-A", "card 0", limit_s=0.0):
        assert locks.holder("card-A") == str(os.getpid())
    assert locks.holder("card-A") == ""


def test_shared_holders_exclude_only_one_who_wants_it_alone() -> None:
    with locks.held("host", "h", limit_s=0.0, shared=True), locks.held("host", "h", limit_s=0.0, shared=True):
        assert locks.holder("host") == ""
        with pytest.raises(Infrastructure), locks.held("host", "h", limit_s=0.0):
            pass


def test_a_serial_makes_a_file_name() -> None:
    with locks.held("card-../U1:0x1", "card 0", limit_s=0.0):
        assert [path.name for path in locks.folder().iterdir()] == ["card-.._U1_0x1.lock"]


def test_the_usual_folder_is_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AICSWEEP_LOCKS")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert stat.S_IMODE(locks.folder().stat().st_mode) == 0o700


def test_a_link_laid_in_its_place_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AICSWEEP_LOCKS")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"aicsweep-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Infrastructure, match="belongs to somebody else"):
        locks.folder()


def test_a_folder_that_cant_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AICSWEEP_LOCKS", str(tmp_path / "file" / "locks"))
    with pytest.raises(Infrastructure, match="set AICSWEEP_LOCKS"):
        locks.folder()
