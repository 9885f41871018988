"""Where numbers come from: host, CPU, kernel and our own version, for every row."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from runner import __version__


@cache
def host() -> Mapping[str, str]:
    """Facts of this machine that a number depends on. An unknown one is an empty text."""
    return {
        "host": socket.gethostname(),
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "os": platform.freedesktop_os_release().get("PRETTY_NAME", "")
        if Path("/etc/os-release").exists()
        else "",
        "aicsweep_version": __version__,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
