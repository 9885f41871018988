#!/opt/aicsweep/bin/python
"""EMULATED: an AIC100 tool in a container, as many cards as the container sees device files. Its name is the
tool's. What the tools of a pod share lies in /tmp, for the root file system is read-only."""

import fcntl
import os
import sys
from pathlib import Path

sys.path.append("/opt/emulated")

from emulated_sdk import Card, install
from emulated_sdk.entry import main

SHARED = Path("/tmp/emulated-sdk")


def cards() -> list[Card]:
    """A card a device file that this user can open; its serial says node and file."""
    found = []
    for device in sorted(Path("/dev/accel").glob("accel*")) if Path("/dev/accel").is_dir() else []:
        os.close(os.open(device, os.O_RDWR))
        found.append(Card(serial=f"EMUL-{os.environ.get('AICSWEEP_NODE', 'here')}-{device.name}"))
    return found


with open("/tmp/emulated-sdk.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not SHARED.exists():
        install(SHARED, cards=cards())
main(Path(sys.argv[0]).name, str(SHARED))
