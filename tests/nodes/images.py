"""The images of the Dockerfile, built where there is no Docker: `python -m tests.nodes.images [TARGET...]`.

buildah builds them on a Debian made by debootstrap. Each lies as an archive in the user's cache folder, below
a name that follows from all that decides its content, so that a second build takes no time. Python wheels
come from uv's cache on this machine, which installing the checkout's own .venv has filled: the base has the
Python that the wheels there are for.
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

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
TARGETS = ("controller", "measure", "build")
# What .dockerignore lets through.
CONTEXT = ("LICENSE", "README.md", "pyproject.toml", "requirements", "runner", "k8s")
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
PACKAGES = "python3,python3-venv,ca-certificates"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_KEPT = 2
# vfs, which works everywhere, writes an image with torch four times, 6 GB each.
_BUILDAH = ("buildah", f"--storage-driver={os.environ.get('STORAGE_DRIVER', 'overlay')}")


@dataclass(frozen=True)
class Image:
    """An image to be built: `name` without a tag, from `files` of a folder, on a base image's name."""

    name: str
    context: Path
    files: tuple[str, ...]
    dockerfile: Path | None = None
    target: str = ""
    base: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)

    def key(self) -> str:
        """Changes with whatever decides what comes out."""
        facts = [self.target, self.base, sorted(self.arguments.items())]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for file in [*self._contents(), *([self.dockerfile] if self.dockerfile else [])]:
            digest.update(
                f"{file.name if file == self.dockerfile else file.relative_to(self.context)}\0".encode()
            )
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def _contents(self) -> list[Path]:
        found: list[Path] = []
        for part in self.files:
            path = self.context / part
            found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return sorted(file for file in found if "__pycache__" not in file.parts)

    @property
    def reference(self) -> str:
        return f"localhost/{self.name}:{self.key()}"

    @property
    def archive(self) -> Path:
        """A `docker save` of it."""
        return cache_folder() / f"{self.name}-{self.key()}.tar"


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aicsweep" / "images"


def product(target: str, base: str = "") -> Image:
    """An image of the Dockerfile, on a base image that `ensure` has built, by default a plain Debian."""
    name, base = f"aicsweep-{target}", base or base_image().reference
    return Image(name, ROOT, CONTEXT, ROOT / "Dockerfile", target, base)


def base_image() -> Image:
    """A Debian with the Python that this machine's wheels are for."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    suite = SUITES.get(version, SUITES["3.13"])
    return Image(f"aicsweep-base-{suite}", ROOT, (), arguments={"suite": suite, "packages": PACKAGES})


def pause_image() -> Image:
    """What holds a pod's namespaces on a node of `tests.nodes`; its program must have been made."""
    (part,) = (part for part in binaries.NODE_PARTS if "pause" in part.programs)
    return Image("aicsweep-pause", part.folder(), ("pause",), HERE / "pause.Dockerfile")


def emulated_base() -> Image:
    """A base image as one with the vendor's SDK, whose tools are the EMULATED ones."""
    files = ("emulated_sdk", "nodes/emulated_tool.py")
    return Image(
        "aicsweep-emulated", ROOT / "tests", files, HERE / "emulated.Dockerfile", "", base_image().reference
    )


def for_tests() -> dict[str, tuple[Image, ...]]:
    """What runs on the nodes of `tests.nodes`, each after what it stands on."""
    base, emulated = base_image(), emulated_base()
    return {
        "pause": (pause_image(),),
        "measure": (base, emulated, product("measure", emulated.reference)),
        "build": (base, emulated, product("build", emulated.reference)),
    }


def ensure(image: Image, *bases: Image) -> Path:
    """The image's archive, after building what is missing; `bases` are what it stands on, lowest first.
    Raises RuntimeError with the tool's last words."""
    if not image.archive.exists():
        cache_folder().mkdir(parents=True, exist_ok=True)
        with _locked(cache_folder() / "lock"):
            if not image.archive.exists():
                _build(image, bases)
    os.utime(image.archive)
    return image.archive


def _build(image: Image, bases: tuple[Image, ...]) -> None:
    # A storage of its own, gone afterwards, holds no more than this build.
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache_folder()) as folder:
        work = Path(folder)
        storage = ["--root", str(work / "storage"), "--runroot", str(work / "run")]
        tool = [*_BUILDAH, *storage]
        for number, base in enumerate(bases):
            if not base.archive.exists():
                _build(base, bases[:number])
        if bases:
            _run([*tool, "pull", "--quiet", f"docker-archive:{bases[-1].archive}"], work)
        (work / "sbom").mkdir()
        if image.dockerfile:
            _run([*tool, *_bud(image, work / "sbom")], work)
        else:
            _debootstrap(image, work, tool)
        made = work / "image.tar"
        _run([*tool, "push", "--quiet", image.reference, f"docker-archive:{made}:{image.reference}"], work)
        made.rename(image.archive)
        for listed in (work / "sbom").iterdir():
            listed.rename(image.archive.with_suffix(".cdx.json"))
    _prune(image.name)


def _bud(image: Image, sbom: Path) -> list[str]:
    given = {**image.arguments, **({"BASE_IMAGE": image.base} if image.base else {})}
    if image.target:
        given |= {"VERSION": __version__}
    command = ["bud", "--quiet", "--isolation=chroot", "--pull-never", "--layers=false", "--network=host"]
    command += [f"--build-arg={name}={value}" for name, value in given.items()]
    command += [f"--target={image.target}"] if image.target else []
    if image.target:
        command += ["--volume", f"{sbom}:/sbom", "--volume", f"{_uv_cache()}:/uv-cache"]
    if image.target and AUTHORITIES.exists():
        # A machine behind a proxy that signs for others has its authority there.
        command += ["--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro"]
    for name, file in (("pip", _pip_config()), ("uv", _uv_config())):
        if image.target and file:
            command += ["--secret", f"id={name},src={file}"]
    return [*command, "--file", str(image.dockerfile), "--tag", image.reference, str(image.context)]


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


def _debootstrap(image: Image, work: Path, tool: list[str]) -> None:
    tree = work / "tree"
    suite, packages = image.arguments["suite"], image.arguments["packages"]
    _run(["debootstrap", "--variant=minbase", f"--include={packages}", suite, str(tree)], work)
    shutil.rmtree(tree / "var/cache/apt", ignore_errors=True)
    shutil.rmtree(tree / "var/lib/apt/lists", ignore_errors=True)
    for file in (tree / "dev").iterdir():
        if not file.is_dir():
            file.unlink()
    context = work / "context"
    context.mkdir()
    with tarfile.open(context / "tree.tar", "w") as archive:
        archive.add(tree, arcname="/", filter=lambda found: found)
    shutil.rmtree(tree)
    (context / "Dockerfile").write_text("FROM scratch\nADD tree.tar /\n")
    _run(
        [
            *tool,
            "bud",
            "--quiet",
            "--isolation=chroot",
            "--layers=false",
            "--tag",
            image.reference,
            str(context),
        ],
        work,
    )


def _prune(name: str) -> None:
    """Of each image the newest archives stay: one with torch takes gigabytes."""
    mine = [f for f in cache_folder().glob(f"{name}-*.tar") if f.stem.removeprefix(f"{name}-").isalnum()]
    for old in sorted(mine, key=lambda file: file.stat().st_mtime)[:-_KEPT]:
        old.unlink()
        old.with_suffix(".cdx.json").unlink(missing_ok=True)


def _run(command: list[str], work: Path) -> str:
    # buildah keeps the files of a build below TMPDIR, by default on /var/tmp.
    environment = {**os.environ, "TMPDIR": str(work)}
    done = subprocess.run(command, text=True, capture_output=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
    return done.stdout


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Only one process at a time builds; the kernel frees the lock if it dies."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(TARGETS))
def main(targets: tuple[str, ...]) -> None:
    """Build images; by default all."""
    base = base_image()
    for image in (base, *(product(target) for target in targets or TARGETS)):
        began, known = time.monotonic(), image.archive.exists()
        archive = ensure(image, *(() if image is base else (base,)))
        how = "there" if known else f"built in {time.monotonic() - began:.0f} s"
        click.echo(f"{image.reference}  {archive.stat().st_size / 1e6:,.0f} MB  {how}  {archive}")


if __name__ == "__main__":
    main(prog_name="python -m tests.nodes.images")
