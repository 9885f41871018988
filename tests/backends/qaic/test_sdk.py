"""Which tools are found where, of which versions, and what is said of those that are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.backends.qaic import sdk
from runner.errors import Infrastructure
from tests import emulated_sdk


def test_a_named_root_is_used(tmp_path: Path) -> None:
    root = emulated_sdk.install(tmp_path / "sdk").root
    assert sdk.find(root, {}).root == root
    assert sdk.find(None, {"AICSWEEP_SDK": str(root)}).root == root


def test_a_named_root_without_tools_is_not_replaced_by_another(tmp_path: Path) -> None:
    other = emulated_sdk.install(tmp_path / "other")
    environ = {"PATH": str(other.runner.parent), "AICSWEEP_SDK": str(tmp_path / "nowhere")}
    with pytest.raises(Infrastructure, match=r"nowhere \(named by AICSWEEP_SDK\): none of exec/qaic-compile"):
        sdk.find(None, environ)


def test_an_sdk_is_found_around_a_tool_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "DEFAULT_ROOT", tmp_path / "usual")
    other = emulated_sdk.install(tmp_path / "other")
    assert sdk.find(None, {"PATH": str(other.runner.parent)}).root == other.root
    usual = emulated_sdk.install(tmp_path / "usual")
    assert sdk.find(None, {"PATH": str(other.runner.parent)}).root == usual.root


def test_no_sdk_says_where_it_was_looked_for_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "DEFAULT_ROOT", tmp_path)
    with pytest.raises(Infrastructure) as caught:
        sdk.find(None, {"PATH": ""})
    assert str(tmp_path) in caught.value.message
    assert "AICSWEEP_SDK" in caught.value.remedy
    assert caught.value.reason == "sdk"


@pytest.mark.parametrize(
    ("style", "compiler", "version", "json"),
    [
        ("1.10", "qaic-exec", "1.10.193", False),
        ("1.19", "qaic-exec", "1.19.12", True),
        ("1.21", "qaic-compile", "1.21.12", True),
    ],
)
def test_compiler_and_versions_of_each_line(
    tmp_path: Path, style: str, compiler: str, version: str, json: bool
) -> None:
    found = sdk.find(emulated_sdk.install(tmp_path / "sdk", style=style).root)
    assert found.compiler().path.name == compiler
    assert found.compiler().compile_only == (compiler == "qaic-exec")
    assert found.apps_version == found.platform_version == version
    assert found.compiler_version() == f"{compiler}-{version}"
    assert found.takes_json_inputs() == json


def test_the_newer_compiler_is_preferred(tmp_path: Path) -> None:
    emulated = emulated_sdk.install(tmp_path / "sdk", style="1.21")
    shutil.copy(emulated.compiler, emulated.compiler.with_name("qaic-exec"))
    assert sdk.find(emulated.root).compiler().path.name == "qaic-compile"


def test_half_an_sdk_serves_its_half_and_names_the_other(tmp_path: Path) -> None:
    emulated = emulated_sdk.install(tmp_path / "sdk")
    emulated.compiler.unlink()
    found = sdk.find(emulated.root)
    assert found.runner() == emulated.runner
    with pytest.raises(Infrastructure, match="no qaic-compile or qaic-exec") as caught:
        found.compiler()
    assert "Apps SDK" in caught.value.remedy
    emulated.runner.unlink()
    with pytest.raises(Infrastructure, match="no qaic-runner") as caught:
        found.runner()
    assert "Platform SDK" in caught.value.remedy


def test_a_tool_that_is_not_executable_is_told_from_a_missing_one(tmp_path: Path) -> None:
    emulated = emulated_sdk.install(tmp_path / "sdk")
    emulated.runner.chmod(0o644)
    with pytest.raises(Infrastructure, match="qaic-runner is not executable"):
        sdk.find(emulated.root).runner()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe garbage", b"<base_version>new</base_version>"])
def test_an_unknown_version_is_empty_and_the_compilers_digest_stands_for_it(
    tmp_path: Path, content: bytes | None
) -> None:
    emulated = emulated_sdk.install(tmp_path / "sdk")
    path = emulated.root / "versions" / "apps.xml"
    path.unlink() if content is None else path.write_bytes(content)
    found = sdk.find(emulated.root)
    assert found.apps_version == ""
    assert found.compiler_version().startswith("qaic-compile-sha256:")


def test_another_compiler_of_unknown_version_makes_other_binaries(tmp_path: Path) -> None:
    versions = set()
    for name in ("one", "two"):
        emulated = emulated_sdk.install(tmp_path / name)
        (emulated.root / "versions" / "apps.xml").unlink()
        versions.add(sdk.find(emulated.root).compiler_version())
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("text", "json"), [("--set-size --aic-batch-json-input", True), ("--set-size", False)]
)
def test_a_runner_of_unknown_version_is_asked_for_its_options(tmp_path: Path, text: str, json: bool) -> None:
    emulated = emulated_sdk.install(tmp_path / "sdk")
    (emulated.root / "versions" / "platform.xml").unlink()
    emulated.runner.write_text(f"#!/bin/sh\necho '{text}'\n")
    assert sdk.find(emulated.root).takes_json_inputs() == json
