"""helm, as a user runs it, with folders of its own and nothing of the host's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import binaries

CHART = Path(__file__).parents[2] / "helm/aicsweep"
RELEASE, NAMESPACE = "aicsweep", "bench"

Object = dict[str, Any]


class HelmFailed(Exception):
    """helm said no; the text is what it wrote to its error stream."""


class Helm:
    """Commands before the cluster that `environment` leads to; without one, those that need none."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._program = binaries.ensure(print, "kubectl")["helm"]
        homes = {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**os.environ, "KUBECONFIG": os.devnull, **(environment or {}), **homes}

    def __call__(self, *args: str, values: Mapping[str, Any] | None = None) -> str:
        """What it prints. `values` as with -f. Raises HelmFailed."""
        given = ["-f", "-"] if values is not None else []
        done = subprocess.run(
            [str(self._program), *args, *given],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
            check=False,
            env=self._environment,
        )
        if done.returncode:
            raise HelmFailed(done.stderr.strip() + done.stdout)
        return done.stdout

    def render(self, values: Mapping[str, Any] | None = None, *, release: str = RELEASE) -> list[Object]:
        """The objects that an installation would make."""
        text = self("template", release, str(CHART), "-n", NAMESPACE, values=values or {})
        return [found for found in yaml.safe_load_all(text) if found]
