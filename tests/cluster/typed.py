"""`kubectl aicsweep` as somebody types it in a scene's namespace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cluster.scene import Scene

_ROOT = Path(__file__).parents[2]


def begun(scene: Scene, *args: str, **environment: str) -> subprocess.Popen[str]:
    """`kubectl aicsweep ARGS` in the scene's namespace, with no trace of this host's AWS settings."""
    clean = {k: v for k, v in scene.rig.cluster.environment().items() if not k.startswith("AWS_")}
    away = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "PYTHONPATH": str(_ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "k8s.plugin", *args, "-n", scene.namespace],
        env={**clean, **away, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", **environment},
        cwd=scene.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def plugin(scene: Scene, *args: str, code: int = 0, **environment: str) -> tuple[str, str]:
    """What it prints on both streams, having ended with `code`."""
    process = begun(scene, *args, **environment)
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, (args, out, err)
    return out, err


def pods_of_the_plugin(scene: Scene) -> list[str]:
    """Names of the short pods it has made that are still there."""
    return [
        pod["metadata"]["name"]
        for pod in scene.pods()
        if pod["metadata"]["labels"]["aicsweep.dev/stage"] in ("table", "doctor")
    ]
