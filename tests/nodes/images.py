"""The images of the Dockerfile, built where there is no Docker: `python -m tests.nodes.images [TARGET...]`.

buildah builds them on a Debian made by debootstrap, in a storage of their own in the user's cache folder. Each
is named by all that decides its content and built once; what it stands on is an image too, so that a change of
aicsweep makes only the last, small layer anew. Python wheels come from uv's cache on this machine, which
installing the checkout's own .venv has filled: the base has the Python that the wheels there are for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from runner import __version__
from tests.cluster import binaries
from tests.nodes import buildah

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# The packages of each target: a file of `requirements`.
TARGETS = {"controller": "controller", "measure": "core", "build": "export"}
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
PACKAGES = "python3,python3-venv,ca-certificates"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Image:
    """An image to be built: `name` without a tag, from `files` of a folder. `base` is what BASE_IMAGE says,
    `stages` what stands for stages of the Dockerfile that were built before."""

    name: str
    context: Path
    files: tuple[str, ...] = ()
    dockerfile: Path | None = None
    target: str = ""
    base: Image | None = None
    stages: Mapping[str, Image] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)

    def key(self) -> str:
        """Changes with whatever decides what comes out."""
        below = [image.reference for image in self.below()]
        digest = hashlib.sha256(json.dumps([self.target, below, sorted(self.arguments.items())]).encode())
        for file in [*self._contents(), *([self.dockerfile] if self.dockerfile else [])]:
            digest.update(
                f"{file.name if file == self.dockerfile else file.relative_to(self.context)}\0".encode()
            )
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def below(self) -> list[Image]:
        """What must be there first."""
        return [*([self.base] if self.base else []), *self.stages.values()]

    def _contents(self) -> list[Path]:
        found: list[Path] = []
        for part in self.files:
            path = self.context / part
            found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return sorted(file for file in found if "__pycache__" not in file.parts)

    @property
    def reference(self) -> str:
        return f"localhost/{self.name}:{self.key()}"


def base_image() -> Image:
    """A Debian with the Python that this machine's wheels are for."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    suite = SUITES.get(version, SUITES["3.13"])
    return Image(f"aicsweep-base-{suite}", ROOT, arguments={"suite": suite, "packages": PACKAGES})


def product(target: str) -> Image:
    """An image of the Dockerfile."""
    base, dockerfile = base_image(), ROOT / "Dockerfile"
    tools = Image("aicsweep-tools", ROOT, ("requirements/images.txt",), dockerfile, "tools", base)
    files = (f"requirements/{TARGETS[target]}.txt", "requirements/install-packages.sh")
    stage = f"{target}-packages"
    packages = Image(f"aicsweep-{stage}", ROOT, files, dockerfile, stage, base, {"tools": tools})
    files = ("LICENSE", "README.md", "pyproject.toml", "requirements/install-aicsweep.sh", "runner", "k8s")
    below = {"tools": tools, stage: packages}
    return Image(f"aicsweep-{target}", ROOT, files, dockerfile, target, base, below, {"VERSION": __version__})


def pause_image() -> Image:
    """What holds a pod's namespaces on a node of `tests.nodes`; its program must have been made."""
    (part,) = (part for part in binaries.NODE_PARTS if "pause" in part.programs)
    return Image("aicsweep-pause", part.folder(), ("pause",), HERE / "pause.Dockerfile")


def store_image() -> Image:
    """What the chart's `store.dev` runs."""
    return Image("aicsweep-weed", Path(sys.executable).parent, ("weed",), HERE / "weed.Dockerfile")


def emulated(target: str) -> Image:
    """An image of the Dockerfile as if its base had held the vendor's SDK, with EMULATED tools."""
    files = ("emulated_sdk", "nodes/emulated_tool.py")
    dockerfile = HERE / "emulated.Dockerfile"
    return Image(f"aicsweep-{target}-emulated", ROOT / "tests", files, dockerfile, "", product(target))


def for_tests() -> dict[str, Image]:
    """What runs on the nodes of `tests.nodes`."""
    return {
        "pause": pause_image(),
        "store": store_image(),
        "controller": product("controller"),
        "measure": emulated("measure"),
        "build": emulated("build"),
    }


def missing(image: Image) -> list[Image]:
    """What `ensure` would have to build, in order."""
    if buildah.has(image.reference):
        return []
    found = [each for below in image.below() for each in missing(below)] + [image]
    return list({each.reference: each for each in found}.values())


def ensure(image: Image) -> None:
    """Build it, and what it stands on, where that is not there. Raises RuntimeError with the tool's last words."""
    buildah.FOLDER.mkdir(parents=True, exist_ok=True)
    with _locked(buildah.FOLDER / "lock"):
        for each in missing(image):
            _build(each)
            buildah.prune(each.name)


def _build(image: Image) -> None:
    with tempfile.TemporaryDirectory(prefix="build-", dir=buildah.FOLDER) as folder:
        work = Path(folder)
        if image.dockerfile is None:
            _debootstrap(image, work)
            return
        (work / "sbom").mkdir()
        options = [f"--build-arg={name}={value}" for name, value in image.arguments.items()]
        options += [f"--build-arg=BASE_IMAGE={image.base.reference}"] if image.base else []
        for name, stage in image.stages.items():
            options += [f"--build-context={name}=container-image://{stage.reference}"]
        options += [f"--target={image.target}", *_of_this_machine(work / "sbom")] if image.target else []
        buildah.build(image.reference, image.dockerfile, image.context, work, *options)
        for listed in (work / "sbom").iterdir():
            listed.rename(sbom(image))


def sbom(image: Image) -> Path:
    """The list of what is in it, for images of the Dockerfile."""
    return buildah.FOLDER / f"{image.name}.cdx.json"


def _of_this_machine(sbom: Path) -> list[str]:
    """Where packages come from here: its caches, indexes and authorities."""
    options = [f"--volume={sbom}:/sbom", f"--volume={_uv_cache()}:/uv-cache"]
    if AUTHORITIES.exists():
        # A machine behind a proxy that signs for others has its authority there.
        options += [f"--volume={AUTHORITIES}:{AUTHORITIES}:ro"]
    for name, file in (("pip", _pip_config()), ("uv", _uv_config())):
        options += [f"--secret=id={name},src={file}"] if file else []
    return options


def _uv_cache() -> Path:
    uv = str(Path(sys.executable).with_name("uv"))
    found = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    Path(found).mkdir(parents=True, exist_ok=True)
    return Path(found)


def _pip_config() -> Path | None:
    listed = [
        os.environ.get("PIP_CONFIG_FILE", ""),
        "~/.config/pip/pip.conf",
        "~/.pip/pip.conf",
        "/etc/pip.conf",
    ]
    return next((path for path in (Path(p).expanduser() for p in listed if p) if path.is_file()), None)


def _uv_config() -> Path | None:
    listed = [os.environ.get("UV_CONFIG_FILE", ""), "~/.config/uv/uv.toml", "/etc/uv/uv.toml"]
    return next((path for path in (Path(p).expanduser() for p in listed if p) if path.is_file()), None)


def _debootstrap(image: Image, work: Path) -> None:
    tree, context = work / "tree", work / "context"
    suite, packages = image.arguments["suite"], image.arguments["packages"]
    buildah.run(["debootstrap", "--variant=minbase", f"--include={packages}", suite, str(tree)], work)
    shutil.rmtree(tree / "var/cache/apt", ignore_errors=True)
    shutil.rmtree(tree / "var/lib/apt/lists", ignore_errors=True)
    for file in (tree / "dev").iterdir():
        if not file.is_dir():
            file.unlink()
    context.mkdir()
    with tarfile.open(context / "tree.tar", "w") as archive:
        archive.add(tree, arcname="/", filter=lambda found: found)
    shutil.rmtree(tree)
    (context / "Dockerfile").write_text("FROM scratch\nADD tree.tar /\n")
    buildah.build(image.reference, context / "Dockerfile", context, work)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Only one process at a time builds; the kernel frees the lock if it dies."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(list(TARGETS)))
def main(targets: tuple[str, ...]) -> None:
    """Build images; by default all."""
    for target in targets or TARGETS:
        image = product(target)
        for each in missing(image):
            began = time.monotonic()
            ensure(each)
            took = f"{time.monotonic() - began:.0f} s"
            click.echo(f"  {each.reference}  {buildah.size(each.reference) / 1e9:.2f} GB  built in {took}")
        click.echo(f"{image.reference}  {buildah.size(image.reference) / 1e9:.2f} GB  {sbom(image)}")
    click.echo(f"They are in a storage of buildah's: {' '.join(buildah.COMMAND)} images")


if __name__ == "__main__":
    main(prog_name="python -m tests.nodes.images")
