"""Making the test cluster's programs: whole or not at all, once, and without a Go on the machine."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.binaries import Part


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # uv's own cache stays where it is.
    real = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    monkeypatch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR", f"{real}/uv"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def part(make) -> Part:
    return Part("toy", ("toy",), ("kubectl.txt",), make, "no time")


def write_program(_: Part, made: Path, say: binaries.Say) -> None:
    (made / "toy").write_text("program")


def test_what_is_there_is_not_made_again(monkeypatch):
    monkeypatch.setattr(binaries, "PARTS", (part(write_program),))
    said: list[str] = []
    program = binaries.ensure(said.append)["toy"]
    assert program.read_text() == "program"
    assert len(said) == 1
    assert binaries.ensure(said.append)["toy"] == program
    assert len(said) == 1


def test_only_the_parts_that_are_named_are_made(monkeypatch):
    other = Part("other", ("other",), ("kubectl.txt",), lambda *_: pytest.fail("nobody asked for it"), "long")
    monkeypatch.setattr(binaries, "PARTS", (part(write_program), other))
    assert list(binaries.ensure(print, "toy")) == ["toy"]
    assert binaries.missing("toy") == []
    assert binaries.missing() == [other]


def test_a_part_that_fails_halfway_leaves_nothing(monkeypatch):
    def fail(_: Part, made: Path, say: binaries.Say) -> None:
        (made / "half").write_text("half")
        raise RuntimeError("no disk left")

    monkeypatch.setattr(binaries, "PARTS", (part(fail),))
    with pytest.raises(RuntimeError, match="no disk left"):
        binaries.ensure(print)
    assert binaries.missing()
    assert [entry.name for entry in binaries.cache_folder().iterdir()] == ["lock"]

    monkeypatch.setattr(binaries, "PARTS", (part(lambda *_: None),))
    with pytest.raises(RuntimeError, match="without toy"):
        binaries.ensure(print)
    assert binaries.missing()


def test_of_two_at_once_one_makes_and_the_other_waits(monkeypatch):
    waiting, made_by = threading.Event(), []

    def make(toy: Part, made: Path, say: binaries.Say) -> None:
        made_by.append(threading.current_thread().name)
        write_program(toy, made, say)
        assert waiting.wait(20)

    def say(text: str) -> None:
        if "waiting" in text:
            waiting.set()

    monkeypatch.setattr(binaries, "PARTS", (part(make),))
    threads = [threading.Thread(target=binaries.ensure, args=(say,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert waiting.is_set()
    assert len(made_by) == 1


def test_a_new_recipe_is_made_beside_the_old(monkeypatch, tmp_path):
    monkeypatch.setattr(binaries, "RECIPE", tmp_path)
    (tmp_path / "kubectl.txt").write_text("one")
    first = part(write_program).folder()
    (tmp_path / "kubectl.txt").write_text("two")
    assert part(write_program).folder() != first


@pytest.mark.parametrize("found", ["none", "old"])
def test_go_is_installed_where_there_is_none_or_an_old_one(monkeypatch, tmp_path, found):
    if found == "old":
        (tmp_path / "go").write_text("#!/bin/sh\necho go1.19.8\n")
        (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    binaries.cache_folder().mkdir(parents=True)
    go = binaries.go(print)
    assert go.is_relative_to(binaries.cache_folder())
    version = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout
    assert re.match(r"go version go1\.26\.", version)


def test_recipes_hold_hashes_and_no_addresses():
    for file in binaries.RECIPE.rglob("*"):
        if file.is_file():
            assert "://" not in file.read_text(), file
