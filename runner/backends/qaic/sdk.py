"""Where the vendor's SDK is, which tools it has, and of which versions. Asked before anything is called.

    ROOT/exec/qaic-compile or qaic-exec     Apps SDK, x86-64 only: compiles, needs no card
    ROOT/exec/qaic-runner                   Platform SDK: runs a program on a card
    ROOT/tools/qaic-util                    Platform SDK: asks a card how it is
    ROOT/versions/{apps,platform}.xml       their versions

A host that compiles may lack the Platform SDK and one that measures the Apps SDK: only what is
needed is demanded.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner import process
from runner.errors import Infrastructure

ENVIRONMENT = "AICSWEEP_SDK"
DEFAULT_ROOT = Path("/opt/qti-aic")
# The successor first. It names the hardware otherwise, and never runs what it compiled.
HW_VERSIONS = {"qaic-compile": "ai100", "qaic-exec": "2.0"}
RUNNER, QUERY = "qaic-runner", "qaic-util"
PLACES = {name: f"exec/{name}" for name in (*HW_VERSIONS, RUNNER)} | {QUERY: f"tools/{QUERY}"}
KITS = dict.fromkeys(HW_VERSIONS, "Apps SDK (x86-64 hosts only)") | dict.fromkeys(
    (RUNNER, QUERY), "Platform SDK"
)
# The first line of SDKs whose runner is known to take a JSON description of its inputs.
JSON_INPUTS_FROM = (1, 19)
HELP_LIMIT_S = 20.0
XML_BYTES = 64 * 1024

# What a folder of stand-ins holds.
EMULATED = "EMULATED"


@dataclass(frozen=True)
class Compiler:
    """A compiler and how it wants to be called."""

    path: Path
    hw_version: str
    # qaic-exec runs the program on a card afterwards unless told not to.
    compile_only: bool


@dataclass(frozen=True)
class Sdk:
    """An SDK found at `root`; `source` says how. Versions are empty where unknown."""

    root: Path
    source: str

    def compiler(self) -> Compiler:
        """The newest compiler there is. Raises Infrastructure where there is none."""
        path = self._tool(*HW_VERSIONS)
        return Compiler(path, HW_VERSIONS[path.name], compile_only=path.name == "qaic-exec")

    def runner(self) -> Path:
        """Raises Infrastructure where there is none."""
        return self._tool(RUNNER)

    def query(self) -> Path:
        """qaic-util. Raises Infrastructure where there is none."""
        return self._tool(QUERY)

    def has(self, *names: str) -> bool:
        """Whether one of these tools is there and executable."""
        return any(_executable(self.root / PLACES[name]) for name in names)

    @property
    def emulated(self) -> bool:
        """Whether the folder says that its tools stand in for the vendor's; every row then says so too."""
        return (self.root / EMULATED).exists()

    @property
    def apps_version(self) -> str:
        return _version(self.root / "versions" / "apps.xml")

    @property
    def platform_version(self) -> str:
        return _version(self.root / "versions" / "platform.xml")

    def compiler_version(self) -> str:
        """What decides, beside graph and flags, what a binary contains: the compiler and its version, where
        that is unknown the digest of its files."""
        path = self.compiler().path
        library = self.root / "dev" / "lib" / "x86_64" / "libQAicCompiler.so"
        version = self.apps_version or _digest(tuple(p for p in (path, library) if p.is_file()))
        return f"{path.name}-{version}"

    def takes_json_inputs(self) -> bool:
        """Whether the runner takes `--aic-batch-json-input`: by its version, else by its help text."""
        version = re.match(r"(\d+)\.(\d+)", self.platform_version)
        if version:
            return (int(version[1]), int(version[2])) >= JSON_INPUTS_FROM
        return _helped(self.runner())

    def _tool(self, *names: str) -> Path:
        for name in names:
            if _executable(path := self.root / PLACES[name]):
                return path
        there = [p for name in names if (p := self.root / PLACES[name]).exists()]
        looked = ", ".join(str(self.root / PLACES[name]) for name in names)
        if there:
            problem, remedy = f"{there[0]} is not executable", f"chmod a+x {there[0]}"
        else:
            problem = (
                f"the SDK in {self.root} ({self.source}) has no {' or '.join(names)}: looked for {looked}"
            )
            remedy = f"install the {KITS[names[0]]}, or name another SDK with {ENVIRONMENT}"
        raise Infrastructure(problem, remedy=remedy, reason="sdk")


def find(root: Path | None = None, environ: Mapping[str, str] = os.environ) -> Sdk:
    """The SDK at `root`, else where AICSWEEP_SDK says, else /opt/qti-aic, else around a tool on PATH.

    A root that was named is never silently replaced by another. Raises Infrastructure.
    """
    named = environ.get(ENVIRONMENT, "")
    if root is not None or named:
        sdk = Sdk(root or Path(named), "named by --sdk" if root else f"named by {ENVIRONMENT}")
        if not sdk.has(*PLACES):
            raise Infrastructure(
                f"no SDK in {sdk.root} ({sdk.source}): none of {', '.join(PLACES.values())} is there",
                remedy="name the folder that holds exec/ and tools/, by default /opt/qti-aic",
                reason="sdk",
            )
        return Sdk(sdk.root.absolute(), sdk.source)
    sdk = Sdk(DEFAULT_ROOT, "its usual place")
    if sdk.has(*PLACES):
        return sdk
    for name in PLACES:
        if found := shutil.which(name, path=environ.get("PATH", "")):
            return Sdk(Path(found).resolve().parent.parent, f"{name} is on PATH")
    raise Infrastructure(
        f"no Cloud AI SDK here: looked in {DEFAULT_ROOT} and for {', '.join(PLACES)} on PATH",
        remedy=f"install the vendor's Platform SDK (to measure) or Apps SDK (to compile), or set {ENVIRONMENT}"
        " to its folder; `--backend onnxruntime` measures this machine's CPU",
        reason="sdk",
    )


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _version(path: Path) -> str:
    """`1.19.2` of <base_version>1.19</base_version> <build_id>2</build_id>; empty if not there or not such."""
    try:
        with path.open("rb") as file:
            text = file.read(XML_BYTES).decode(errors="replace")
    except OSError:
        return ""
    parts = [
        re.search(rf"<{tag}>\s*(\d+(?:\.\d+)*)\s*</{tag}>", text) for tag in ("base_version", "build_id")
    ]
    return ".".join(part[1] for part in parts if part) if parts[0] else ""


@functools.cache
def _digest(paths: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


@functools.cache
def _helped(runner: Path) -> bool:
    ended = process.run([runner, "-h"], limit_s=HELP_LIMIT_S)
    text = ended.stdout + ended.stderr
    # A help text that can't be read says nothing; every line since 1.19 takes JSON.
    return "json-input" in text or "set-size" not in text
