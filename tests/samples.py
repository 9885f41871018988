"""Small sweeps and places for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from runner import backends, engine
from runner.progress import Lines
from runner.spec import Sweep
from runner.store import open_store
from runner.sweepfile import parse_sweep


class Silent(Lines):
    """Progress that nobody reads."""

    def say(self, text: str) -> None:
        pass


def sweep(**spec: Any) -> Sweep:
    """A fake sweep of two models; `spec` in the YAML's own names replaces its fields."""
    document = {
        "apiVersion": "aicsweep.dev/v1alpha1",
        "kind": "Sweep",
        "metadata": {"name": "sample"},
        "spec": {"backend": "fake", "models": ["resnet50", "mobilenet_v2"], **spec},
    }
    return parse_sweep(yaml.safe_dump(document).encode())


def place(folder: Path, wanted: Sweep) -> engine.Workplace:
    """Where `wanted` runs, with a folder store below `folder`."""
    return engine.Workplace(
        wanted,
        backends.load(wanted.spec.backend),
        open_store(str(folder / "store")),
        wanted.store_prefix(),
        folder / "cache",
        Silent(),
        backends.load(wanted.spec.backend).devices("all"),
    )
