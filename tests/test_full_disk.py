"""`aicsweep run` on real file systems without room: one clear error, and with room again it goes on.

They are mounted in a mount namespace of the command's own. The store's is in test_cli.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = 4096
SWEEP = """
apiVersion: aicsweep.dev/v1alpha1
kind: Sweep
metadata: {name: small}
spec:
  backend: fake
  models: [resnet50, mobilenet_v2]
  grid: {cores: [1, 2], batchSize: [1, 2]}
"""
# One MiB, and a file that leaves so much of it; then without that file.
SCRIPT = """
set -e
mkdir cache scratch
mount -t tmpfs -o size=1m none "$FULL"
head -c "$TAKEN" /dev/zero > "$FULL/filler"
set +e
"$PYTHON" run.py run small.yaml --store "$STORE"; echo full $?
rm "$FULL/filler"
"$PYTHON" run.py run small.yaml --store "$STORE" >table; echo room $?
"""


def two_runs(folder: Path, full: str, left_bytes: int, store: str) -> subprocess.CompletedProcess[str]:
    """Without room in the folder `full`, and with."""
    (folder / "small.yaml").write_text(SWEEP)
    (folder / "run.py").write_text("from runner.cli import main; main()")
    environment = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHON": sys.executable,
        "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder / "scratch"), "COLUMNS": "200",
        "FULL": full, "TAKEN": str(2**20 - left_bytes), "STORE": store,
    }  # fmt: skip
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", SCRIPT]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-2:] == ["full 3", "room 0"], done.stderr
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "8 ok" in done.stderr
    return done


@pytest.mark.parametrize("left_bytes", [0, 6 * PAGE])
def test_a_full_cache_is_said_and_with_room_the_run_goes_on(
    tmp_path: Path, s3_bucket: str, left_bytes: int
) -> None:
    """Artefacts of a bucket are copied there; results, which wait there otherwise, go straight to the store."""
    done = two_runs(tmp_path, "cache", left_bytes, f"s3://{s3_bucket}/store")
    assert "can't keep an artefact in" in done.stderr
    assert "XDG_CACHE_HOME" in done.stderr


@pytest.mark.parametrize("left_bytes", [PAGE, 2 * PAGE])
def test_full_scratch_space_is_said_and_with_room_the_run_goes_on(tmp_path: Path, left_bytes: int) -> None:
    """While things are built, or a table is written."""
    done = two_runs(tmp_path, "scratch", left_bytes, str(tmp_path / "store"))
    assert "can't be written" in done.stderr
    assert "TMPDIR" in done.stderr


def test_no_room_for_weights_is_no_verdict_on_the_sweep(tmp_path: Path) -> None:
    """The cache of the library that fetches them takes no file: that is said, not that there are none."""
    sweep = SWEEP.replace("fake", "onnxruntime").replace("[resnet50, mobilenet_v2]", "[squeezenet1_1]")
    (tmp_path / "small.yaml").write_text(sweep.replace("batchSize: [1, 2]", "instances: [1]"))
    (tmp_path / "torch").mkdir()
    script = f"""
mount -t tmpfs -o nr_inodes=1 none torch
{sys.executable} -c "from runner.cli import main; main()" run small.yaml --weights pretrained
"""
    environment = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "TORCH_HOME": str(tmp_path / "torch"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "200",
    }  # fmt: skip
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "No space left" in done.stderr
    assert "TORCH_HOME" in done.stderr
