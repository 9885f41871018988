"""Tools run as processes, and the one flag that says this process was asked to end."""

from __future__ import annotations

import threading

# Set once when this process was asked to end; whoever waits polls it.
stopping = threading.Event()
