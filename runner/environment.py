"""Numbers that an environment may set, each with its default. docs/store.md lists them."""

from __future__ import annotations

import math
import os

from runner.errors import BadInput, Problem

# Seconds without a byte until a request to the store counts as lost.
STORE_TIMEOUT_S = "AICSWEEP_STORE_TIMEOUT_S"
# Seconds that a store which has answered before is waited for.
STORE_PATIENCE_S = "AICSWEEP_STORE_PATIENCE_S"
# MiB of results that may wait on this host's disk for a store that is away or slow.
SPOOL_MIB = "AICSWEEP_SPOOL_MIB"

_DEFAULTS = {STORE_TIMEOUT_S: 60.0, STORE_PATIENCE_S: 900.0, SPOOL_MIB: 256.0}


def number(name: str) -> float:
    """What the environment says of a setting, a number above 0, or its default. Raises BadInput."""
    text = os.environ.get(name, "")
    if not text:
        return _DEFAULTS[name]
    try:
        if 0 < (found := float(text)) < math.inf:
            return found
    except ValueError:
        pass
    problem = Problem(f"environment variable {name}", f"{text!r} is no number above 0")
    raise BadInput([problem])
