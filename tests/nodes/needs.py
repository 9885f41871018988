"""Which Debian packages real nodes and images still need: `python -m tests.nodes.needs` prints them."""

from __future__ import annotations

import shutil
from pathlib import Path

CNI_PROGRAMS = Path("/usr/lib/cni")
# A program of each package.
_PROGRAMS = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "iproute2": "ip",
    "runc": "runc",
    "socat": "socat",
    "util-linux": "unshare",
}


def missing() -> list[str]:
    """Names of packages."""
    found = [package for package, program in _PROGRAMS.items() if not shutil.which(program)]
    return found + ([] if (CNI_PROGRAMS / "bridge").exists() else ["containernetworking-plugins"])


if __name__ == "__main__":
    print(*missing())
