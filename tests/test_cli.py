"""The command as a person meets it: real processes, exit codes, what is printed."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

AICSWEEP = [sys.executable, "-c", "from runner.cli import main; main()"]
SMALL = """
apiVersion: aicsweep.dev/v1alpha1
kind: Sweep
metadata: {name: small}
spec:
  backend: fake
  models: [resnet50]
  objectives: [best-throughput, best-latency]
  grid: {cores: [1, 2, 7], instances: [1, 4]}
"""


def aicsweep(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    repository = str(Path(__file__).parent.parent)
    variables = {**os.environ, "PYTHONPATH": repository, "XDG_CACHE_HOME": str(cwd / "cache"), **environment}
    return subprocess.run(
        [*AICSWEEP, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def test_run_then_table_in_every_form(folder):
    first = aicsweep("run", "small.yaml", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert "measured 10 slots" in first.stderr
    assert "fake" in first.stdout
    assert max(map(len, first.stdout.splitlines())) <= 120
    again = aicsweep("run", "small.yaml", cwd=folder)
    assert "measured 0 slots, 10 slots were measured before" in again.stderr

    rows = json.loads(aicsweep("table", "aicsweep-results", "-o", "json", cwd=folder).stdout)
    assert {row["status"] for row in rows} == {"ok", "unfit"}
    assert {row["emulated"] for row in rows} == {True}
    best = aicsweep("table", "aicsweep-results", "--best", "-o", "csv", cwd=folder).stdout
    winners = list(csv.DictReader(io.StringIO(best)))
    assert [w["objective"] for w in winners] == ["best-throughput", "best-latency"]
    one = aicsweep("table", "aicsweep-results", "--where", "cores == 2", "-o", "md", cwd=folder).stdout
    assert one.splitlines()[0].startswith("| model |")
    merged = aicsweep("merge", "aicsweep-results", cwd=folder)
    assert merged.returncode == 0, merged.stderr


def test_what_failed_is_tried_again_when_asked(folder):
    settings = json.dumps({"faults": [{"stage": "run", "where": {"cores": 7}, "reason": "garbage"}]})
    assert aicsweep("run", "small.yaml", cwd=folder, AICSWEEP_FAKE=settings).returncode == 1
    assert "measured 0 slots" in aicsweep("run", "small.yaml", cwd=folder).stderr
    done = aicsweep("run", "small.yaml", "--retry", "failed", "--retry", "infeasible", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 slots to be measured again where status in ['failed', 'infeasible']" in done.stderr
    assert "measured 2 slots, 8 slots were measured before" in done.stderr
    again = aicsweep("run", "small.yaml", "--retry", "failed", cwd=folder)
    assert "nothing to be measured again where status == 'failed'" in again.stderr
    assert "measured 0 slots" in again.stderr
    done = aicsweep("run", "small.yaml", "--remeasure", "--where", "cores == 2 or ci > 200%", cwd=folder)
    assert "measured 4 slots, 6 slots were measured before" in done.stderr
    rows = json.loads(aicsweep("table", "aicsweep-results", "-o", "json", cwd=folder).stdout)
    assert {(row["cores"], row["epoch"]) for row in rows if row["status"] == "ok"} == {(1, 0), (2, 3), (7, 1)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--remeasure"], "--remeasure and --where go together"),
        (["--where", "tie"], "--remeasure and --where go together"),
        (["--remeasure", "--where", "tie", "--retry", "failed"], "either --retry or --remeasure"),
        (["--remeasure", "--where", "coars == 1"], "did you mean cores"),
        (["--remeasure", "--where", "cores = 1"], "is no condition"),
        (["--retry", "missing"], "'missing' is not one of"),
    ],
)
def test_what_cannot_be_asked_for_is_exit_2_before_anything_runs(folder, arguments, words):
    done = aicsweep("run", "small.yaml", *arguments, cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "aicsweep-results").exists()


def test_killed_while_measuring_again_it_goes_on_by_itself(folder):
    assert aicsweep("run", "small.yaml", cwd=folder).returncode == 0
    repository = str(Path(__file__).parent.parent)
    variables = {**os.environ, "PYTHONPATH": repository, "XDG_CACHE_HOME": str(folder / "cache")}
    variables["AICSWEEP_FAKE"] = '{"sleep_s": 0.3}'
    process = subprocess.Popen(
        [*AICSWEEP, "run", "small.yaml", "--remeasure", "--where", "cores < 7"],
        cwd=folder, env=variables, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measure 2/"):
            break
    process.kill()
    process.stderr.close()
    process.wait(timeout=30)
    table = json.loads(aicsweep("table", "aicsweep-results", "-o", "json", cwd=folder).stdout)
    assert {row["status"] for row in table} == {"ok", "unfit"}
    done = aicsweep("run", "small.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = json.loads(aicsweep("table", "aicsweep-results", "-o", "json", cwd=folder).stdout)
    assert {(row["cores"], row["epoch"]) for row in rows if row["status"] == "ok"} == {(1, 1), (2, 1), (7, 0)}


def test_slots_that_failed_are_exit_1(folder):
    settings = json.dumps({"faults": [{"stage": "run", "where": {"cores": 7}, "reason": "garbage"}]})
    done = aicsweep("run", "small.yaml", cwd=folder, AICSWEEP_FAKE=settings)
    assert done.returncode == 1
    assert "garbage" in done.stdout


def test_bad_input_is_exit_2_with_every_problem_and_no_traceback(folder):
    (folder / "bad.yaml").write_text(SMALL.replace("cores: [1, 2, 7]", "cores: [0], setsize: [1]"))
    done = aicsweep("run", "bad.yaml", cwd=folder)
    assert done.returncode == 2
    assert "spec.grid.cores[0]" in done.stderr
    assert "setSize" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "aicsweep-results").exists()
    assert aicsweep("run", "small.yaml", "--store", "ftp://x", cwd=folder).returncode == 2
    assert aicsweep("frobnicate", cwd=folder).returncode == 2


def test_a_store_that_cannot_be_written_is_exit_3(folder):
    (folder / "file").write_text("")
    done = aicsweep("run", "small.yaml", "--store", "file/below", cwd=folder)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert aicsweep("table", "nowhere", cwd=folder).returncode == 3


def test_a_full_disk_is_exit_3_and_what_was_written_by_then_is_whole(folder):
    batches = ", ".join(map(str, range(1, 65)))
    (folder / "big.yaml").write_text(
        SMALL.replace("instances: [1, 4]", f"instances: [1, 2], batchSize: [{batches}]")
    )
    (folder / "store").mkdir()
    (folder / "run.py").write_text("from runner.cli import main; main()")
    # A real file system of 300 KiB in a mount namespace of the command's own, then a larger one.
    script = (
        "mount -t tmpfs -o size=300k none store; $PYTHON run.py run big.yaml --store store; echo full $?;"
        "mount -o remount,size=300m store; $PYTHON run.py run big.yaml --store store >table; echo larger $?"
    )
    repository = str(Path(__file__).parent.parent)
    variables = {**os.environ, "PYTHONPATH": repository, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", script],
        cwd=folder, env={**variables, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "full 3\nlarger 0\n"
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "768 ok" in done.stderr


def test_parquet_goes_to_a_pipe_and_not_to_a_terminal(folder):
    assert aicsweep("run", "small.yaml", cwd=folder).returncode == 0
    repository = str(Path(__file__).parent.parent)
    piped = subprocess.run(
        [*AICSWEEP, "table", "aicsweep-results", "-o", "parquet"],
        cwd=folder, env={**os.environ, "PYTHONPATH": repository}, capture_output=True,
    )  # fmt: skip
    assert piped.stdout.startswith(b"PAR1")
    ours, theirs = os.openpty()
    shown = subprocess.run(
        [*AICSWEEP, "table", "aicsweep-results", "-o", "parquet"],
        cwd=folder, env={**os.environ, "PYTHONPATH": repository}, stdout=theirs, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert shown.returncode == 2
    assert "redirect" in shown.stderr


def test_a_sweep_on_s3_is_read_back_from_there(folder, s3_bucket):
    url = f"s3://{s3_bucket}/aicsweep"
    first = aicsweep("run", "small.yaml", "--store", url, cwd=folder)
    assert first.returncode == 0, first.stderr
    again = aicsweep("run", "small.yaml", "--store", url, cwd=folder)
    assert "measured 0 slots, 10 slots were measured before" in again.stderr
    rows = json.loads(aicsweep("table", url, "-o", "json", cwd=folder).stdout)
    assert sum(row["status"] == "ok" for row in rows) == 10
    assert not (folder / "aicsweep-results").exists()


def test_cards_without_their_sdk_are_not_run_and_that_is_said(folder):
    done = aicsweep("run", "small.yaml", "--backend", "qaic", cwd=folder, AICSWEEP_SDK=str(folder))
    assert done.returncode == 3
    assert f"no SDK in {folder} (named by AICSWEEP_SDK)" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupted_keeps_what_was_measured_and_says_how_to_go_on(folder):
    repository = str(Path(__file__).parent.parent)
    variables = {**os.environ, "PYTHONPATH": repository, "XDG_CACHE_HOME": str(folder / "cache")}
    variables["AICSWEEP_FAKE"] = '{"sleep_s": 0.3}'
    process = subprocess.Popen(
        [*AICSWEEP, "run", "small.yaml"], cwd=folder, env=variables, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measure 2/"):
            break
    process.send_signal(signal.SIGINT)
    stopped = time.monotonic()
    rest = process.stderr.read()
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - stopped < 5
    assert "to go on: aicsweep run small.yaml" in rest
    done = aicsweep("run", "small.yaml", cwd=folder)
    assert done.returncode == 0
    assert "measured 8 slots, 2 slots were measured before" in done.stderr


def test_help_plan_and_table_start_without_torch_and_help_without_pandas(folder):
    blocked = "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; "
    code = blocked + "from runner.cli import main; sys.argv[1:] = {}; main()"
    assert aicsweep("run", "small.yaml", cwd=folder).returncode == 0
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    for arguments in (
        ["plan", "small.yaml", "-o", "json"],
        ["table", "aicsweep-results"],
        ["merge", "aicsweep-results"],
    ):
        command = [sys.executable, "-c", code.format(arguments)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
    names = "('pandas', 'pyarrow', 'boto3', 'onnxruntime', 'torch')"
    heavy = f"import runner.cli, sys; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", heavy], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.strip() == "[]"


def test_verify_proves_a_table_and_names_the_segment_that_was_altered(folder):
    assert aicsweep("run", "small.yaml", cwd=folder).returncode == 0
    done = aicsweep("verify", "aicsweep-results", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "proven (12 rows" in done.stdout
    segment = next((folder / "aicsweep-results").rglob("*.csv.zst"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    words = aicsweep("verify", "aicsweep-results", cwd=folder).stdout.splitlines()
    assert words[0].startswith("altered")
    assert segment.name in words[0]
    assert len(words) < 10
    done = aicsweep("verify", "aicsweep-results", "-o", "json", cwd=folder)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert not said["proven"]
    findings = said["sweeps"][0]["findings"]
    assert [f["key"] for f in findings if f["kind"] == "altered"] == [
        str(segment.relative_to(folder / "aicsweep-results"))
    ]
    assert aicsweep("verify", "ftp://x", cwd=folder).returncode == 2
    nobody = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    gone = aicsweep("verify", "nowhere", cwd=folder, **nobody)
    assert (gone.returncode, "Traceback" in gone.stderr) == (3, False)


def test_merge_makes_the_table_that_was_deleted(folder):
    assert aicsweep("run", "small.yaml", cwd=folder).returncode == 0
    (current,) = (folder / "aicsweep-results").rglob("current.json")
    before = current.read_bytes()
    current.unlink()
    said = aicsweep("verify", "aicsweep-results", cwd=folder).stdout
    assert "`aicsweep merge` makes the table anew" in said
    gone = aicsweep("table", "aicsweep-results", cwd=folder)
    assert (gone.returncode, "no table in" in gone.stderr) == (3, True)
    done = aicsweep("merge", "aicsweep-results", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(current.read_bytes()) == json.loads(before)
    nowhere = aicsweep("merge", "nowhere", cwd=folder)
    assert (nowhere.returncode, "no sweep in nowhere" in nowhere.stderr) == (3, True)


def test_merge_is_of_the_newest_plan_also_where_the_table_is_of_an_older_one(folder):
    """A run of the edited file that was killed before it merged."""
    assert aicsweep("run", "small.yaml", cwd=folder).returncode == 0
    (current,) = (folder / "aicsweep-results").rglob("current.json")
    older = current.read_bytes()
    (folder / "small.yaml").write_text(SMALL.replace("[1, 2, 7]", "[1, 2]"))
    assert aicsweep("run", "small.yaml", cwd=folder).returncode == 0
    newer = current.read_bytes()
    current.write_bytes(older)
    assert aicsweep("merge", "aicsweep-results", cwd=folder).returncode == 0
    assert json.loads(older)["plan"] != json.loads(newer)["plan"]
    assert json.loads(current.read_bytes()) == json.loads(newer)


def test_gc_lists_and_with_yes_removes_what_no_sweep_refers_to(folder):
    assert aicsweep("run", "small.yaml", cwd=folder).returncode == 0
    shutil.rmtree(folder / "aicsweep-results" / "sweeps")
    listed = aicsweep("gc", "aicsweep-results", "--older-than", "0m", cwd=folder)
    assert "could be removed" in listed.stdout
    assert list((folder / "aicsweep-results").rglob("model.onnx"))
    done = json.loads(
        aicsweep("gc", "aicsweep-results", "--older-than", "0m", "--yes", "-o", "json", cwd=folder).stdout
    )
    assert {item["kind"] for item in done["garbage"]} == {"artefact"}
    again = aicsweep("gc", "aicsweep-results", "--older-than", "0m", cwd=folder)
    assert "nothing to remove" in again.stdout
    assert not list((folder / "aicsweep-results").rglob("model.onnx"))
    assert aicsweep("gc", "aicsweep-results", "--older-than", "soon", cwd=folder).returncode == 2
