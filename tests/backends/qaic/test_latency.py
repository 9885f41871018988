"""Latency files: either order of columns, either numbering, and every way they can be damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runner.backends.qaic import latency
from runner.backends.qaic.latency import Latencies
from runner.backends.qaic.verdicts import Missing

LEADING = "one\ntwo, with commas, more\nthree\n\n"
TOTAL_LAST = "Sample, queueDepth, devExecUs, execTotalUs, postProcUs, totalRoundtripTimeUs"
TOTAL_INSIDE = "Sample, devExecUs, execTotalUs, totalRoundtripTimeUs, queueDepth, numInfInQueue"
ROWS = ["0, 3, N/A, 1300.5, 2, 1428.489", "1, 3, N/A, 1301.5, 2, 1429.489"]


def write(
    folder: Path, rows: list[str], *, header: str = TOTAL_LAST, number: int = 1, end: str = "\n"
) -> None:
    text = LEADING + "\n".join([header, *rows]) + end
    (folder / f"aic-profiling-program-{number}-latency.txt").write_text(text)


def read(folder: Path, instances: int = 1) -> Latencies:
    found = latency.read(folder, instances)
    assert isinstance(found, Latencies)
    return found


def problem(folder: Path, instances: int = 1) -> str:
    found = latency.read(folder, instances)
    assert isinstance(found, Missing)
    assert found.reason == "latency-files"
    return found.message


def test_columns_are_found_by_name_and_times_are_seconds(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    found = read(tmp_path)
    np.testing.assert_allclose(found.round_trip_s, [1428.489e-6, 1429.489e-6])
    assert found.execution_s is not None
    np.testing.assert_allclose(found.execution_s, [1300.5e-6, 1301.5e-6])
    assert found.header == (LEADING + TOTAL_LAST).strip()
    assert found.warnings == []


@pytest.mark.parametrize("first", [0, 1])
def test_files_of_all_instances_are_joined_whatever_their_numbers(tmp_path: Path, first: int) -> None:
    write(tmp_path, ["0, N/A, 1, 11.5, 4, 3"], header=TOTAL_INSIDE, number=first)
    write(tmp_path, ["0, N/A, 1, 12.5, 4, 3", "1, N/A, 1, 13.5, 4, 3"], header=TOTAL_INSIDE, number=first + 1)
    (tmp_path / "aic-profiling-program-1-trace.json").touch()
    found = read(tmp_path, 2)
    assert sorted(found.round_trip_s * 1e6) == pytest.approx([11.5, 12.5, 13.5])
    assert found.rows == [1, 2]


def test_without_the_name_the_vendors_column_is_taken_and_said(tmp_path: Path) -> None:
    write(tmp_path, ["0, 7, 2, 3", "1, 8, 2, 3"], header="Sample, someUs, a, b")
    found = read(tmp_path)
    assert found.round_trip_s * 1e6 == pytest.approx([7, 8])
    assert found.warnings == [latency.UNNAMED]
    assert found.execution_s is None


def test_a_missing_line_end_cuts_no_row(tmp_path: Path) -> None:
    write(tmp_path, ROWS, end="")
    assert len(read(tmp_path).round_trip_s) == 2


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_file_an_instance(tmp_path: Path, count: int) -> None:
    for number in range(count):
        write(tmp_path, ROWS, number=number)
    assert problem(tmp_path, 2) == f"{count} latency files for 2 instances"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*ROWS, "2, 3, N/A, 13"], "breaks off within its last row"),
        ([ROWS[0], "1, 3", ROWS[1]], "can't be read"),
        (["0, 3, N/A, 1300, 2, soon"], "can't be read"),
        (["0, 3, N/A, 1300, 2, nan"], "times that are none"),
        (["0, 3, N/A, 1300, 2, -1"], "times that are none"),
        ([], "has no rows"),
    ],
)
def test_damage_is_named(tmp_path: Path, rows: list[str], said: str) -> None:
    write(tmp_path, rows)
    assert said in problem(tmp_path)


def test_an_empty_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "aic-profiling-program-0-latency.txt").touch()
    assert "ends within its first 5 lines" in problem(tmp_path)
