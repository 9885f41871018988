"""Conditions against a loop over rows that says the same in Python."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import condition, merge
from runner.errors import BadInput
from runner.segments import parse_segments
from runner.where import checked, rows_where
from tests.test_merge import ok, segment
from tests.test_plan import planned

ROWS = [
    {"status": "ok", "cores": 1, "reason": "", "images": 100.0, "tie": True, "warnings": ""},
    {"status": "ok", "cores": 7, "reason": "contended", "images": 80.0, "tie": False, "warnings": "5% off"},
    {"status": "failed", "cores": 7, "reason": "garbage", "images": None, "tie": None, "warnings": None},
    {"status": "infeasible", "cores": 14, "reason": None, "images": None, "tie": None, "warnings": ""},
]
TABLE = pa.Table.from_pylist(ROWS)
TABLE = TABLE.set_column(0, "status", TABLE["status"].dictionary_encode())


def fitting(text: str) -> list[int]:
    numbered = TABLE.append_column("row", pa.array(range(len(ROWS))))
    return rows_where(numbered, text)["row"].to_pylist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("status == 'failed'", [2]),
        (condition.of_status("failed", "infeasible"), [2, 3]),
        (condition.of_status("ok"), [0, 1]),
        ("status not in ('failed', 'ok')", [3]),
        ("status in []", []),
        ("1 < cores <= 7 and not tie", [1, 2]),
        ("cores in [7, 14] or tie", [0, 1, 2, 3]),
        ("warnings", [1]),
        ("not warnings", [0, 2, 3]),
        ("'off' in warnings", [1]),
        ("'off' not in warnings and images", [0]),
        ("warnings == '5% off'", [1]),
        ("images > 10% * 900 ", [0]),
        ("cores * 10 - images > -50", [1]),
        ("cores / 2 == 3.5", [1, 2]),
        # Nothing is known of rows 2 and 3: no comparison is true, so its opposite is.
        ("images < 90", [1]),
        ("not images < 90", [0, 2, 3]),
        ("images != 80", [0]),
        ("reason != 'contended'", [0, 2, 3]),
        ("True", [0, 1, 2, 3]),
        ("1 > 2", []),
    ],
)
def test_rows_that_fit(text: str, rows: list[int]) -> None:
    assert fitting(text) == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no condition"),
        ("status = 'ok'", "no condition"),
        ("status == 'ok", "no condition"),
        ("cores ** 9", "Pow"),
        ("__import__('os').system('x')", "can't be part"),
        ("status.upper()", "can't be part"),
        ("[c for c in cores]", "can't be part"),
        ("lambda: 1", "can't be part"),
        ("cores & 1", "BitAnd"),
        ("@cores", "no condition"),
        ("cores == None", "None"),
        ("((" * 250 + "1" + "))" * 250, "no condition"),
        ("1 == " * 200 + "1" + " " * 1024, "more than 1024"),
        ("\x00", "no condition"),
        ("-" * 1000 + "1", "nested more than"),
        ("not " * 200 + "tie", "nested more than"),
        ("cores" + " + 1" * 200 + " > 1", "nested more than"),
        (f"cores < {10**30}", "can't be part"),
        (r"status == '\ud800'", "can't be part"),
        ("statos == 'ok'", "did you mean status?"),
        ("zzz", "columns: ci, p95_ci, status, cores"),
        ("status > 3", "can't be worked out"),
        ("'a' * 3 == 'aaa'", "can't be worked out"),
        ("cores in status", "is no list"),
        ("[1]", "is no value"),
    ],
)
def test_what_is_no_condition_is_bad_input_with_its_place(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        rows_where(TABLE, text, "spec.again[1].where")
    assert {problem.path for problem in caught.value.problems} == {"spec.again[1].where"}
    assert words in str(caught.value)


values = st.sampled_from(["cores", "images", "3", "7", "80", "7.5", "700%"])
texts = st.sampled_from(["status", "reason", "warnings", "'ok'", "''", "'contended'"])
comparisons = st.one_of(
    st.builds(" ".join, st.tuples(values, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), values)),
    st.builds(" ".join, st.tuples(texts, st.sampled_from(["==", "!="]), texts)),
    st.sampled_from(["tie", "warnings", "reason", "'off' in warnings", "cores in [1, 14]"]),
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["and", "or"]), inner),
    ),
    max_leaves=6,
)


WORDS = [
    "cores", "status", "images", "tie", "'ok'", "''", "1", "-", "-", "+", "*", "/", "<", "==", "!=", "not", "in",
    "and", "or", "(", ")", "[", "]", ",", "2%", "1e999", "0", str(2**63), str(2**63 - 1), "None", "if", "else", ".",
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_whatever_is_typed_is_rows_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        rows_where(TABLE, text)


class Unknown(float):
    """A number that fits no comparison, whatever is compared with it."""

    def __ne__(self, other: object) -> bool:
        return False

    def __bool__(self) -> bool:
        return False


@settings(max_examples=200, deadline=None)
@given(conditions)
def test_rows_are_those_of_a_loop(text: str) -> None:
    plain = text.replace("700%", "7")
    rows = [
        {
            name: (Unknown("nan") if name == "images" else "" if name in ("reason", "warnings") else False)
            if value is None
            else value
            for name, value in row.items()
        }
        for row in ROWS
    ]
    assert fitting(text) == [n for n, row in enumerate(rows) if eval(plain, {}, dict(row))]


def test_the_share_of_an_interval_is_a_column() -> None:
    made = planned(grid={"cores": [1, 2, 4], "instances": [1]}, models=["resnet50"])
    slots = [task.slot for task in made.tasks()]
    results = [
        ok(slots[0], 100.0, throughput_ci95_images_s=1.9),
        ok(slots[1], 100.0, throughput_ci95_images_s=2.1, latency_p95_ci95_s=0.0001),
        ok(slots[2], 100.0, warnings="littles-law 2.00", latency_p95_ci95_s=0.01),
    ]
    table = merge.merge(made, parse_segments([("a", segment(*results))]))

    def found(text: str) -> set[str]:
        return set(rows_where(table, text)["slot"].to_pylist())

    assert found("ci > 2%") == {slots[1]}
    assert found("warnings or ci > 2%") == {slots[1], slots[2]}
    assert found("p95_ci > 5%") == {slots[2]}


def test_columns_of_the_table_are_known_without_one() -> None:
    made = planned()
    table = merge.merge(made, parse_segments([]))
    assert sorted(merge.TABLE_COLUMNS) == sorted(table.column_names)
    checked("warnings or ci > 2%", merge.TABLE_COLUMNS)
    with pytest.raises(BadInput, match="throughput_images_s"):
        checked("thruput_images_s > 1", merge.TABLE_COLUMNS)
