"""What `verify` finds of a sweep's run: findings, and the numbers of what was held to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from runner import transfer
from runner.store import Store

# What can be wrong with an object, or with what follows from it.
MISSING, ALTERED, DAMAGED, UNMERGED, DIFFERS, UNPROVEN = (
    "missing", "altered", "damaged", "unmerged", "differs", "unproven",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: `kind` is a word above, `key` the object, from the store's root on."""

    kind: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind:<9} {self.key}: {self.message}"


@dataclass
class Proof:
    """What was found of one sweep's run; proven if nothing was. `prefix` is its folder in the store."""

    prefix: str
    table: str = ""
    rows: int = 0
    segments: int = 0
    plans: int = 0
    artifacts: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        return not self.findings

    def add(self, kind: str, key: str, message: str) -> None:
        """Note a fault of `key`, a key of the sweep's folder."""
        self.findings.append(Finding(kind, f"{self.prefix}/{key}" if self.prefix else key, message))


def digest_of(store: Store, key: str) -> str:
    """SHA-256, hex, of an object of any size. Raises NotFound."""
    hashed = hashlib.sha256()
    for part in transfer.stream(store, key):
        hashed.update(part)
    return hashed.hexdigest()
