import csv
import io

import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import engine, tables, views
from runner.views import to_csv, write_csv
from tests.samples import place, sweep


def test_a_formula_is_disarmed_and_what_is_not_known_is_empty():
    frame = pd.DataFrame(
        {"a": ["=1+1", "fine", "@x", None], "n": [-1.5, 2.0, None, 3.0], "b": [True, False, True, True]}
    )
    assert to_csv(frame).splitlines() == [
        '"a","n","b"',
        '"\'=1+1",-1.5,true',
        '"fine",2,false',
        '"\'@x",,true',
        ",3,true",
    ]


words = st.one_of(st.none(), st.text("=+-@\t\ra'\",\n ", max_size=4))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(words, words), max_size=7))
def test_no_text_of_any_kind_of_column_begins_a_formula(rows):
    plain, shared = ([row[n] for row in rows] for n in (0, 1))
    table = pa.table(
        {
            "plain": pa.chunked_array([pa.array(plain[:2], pa.string()), pa.array(plain[2:], pa.string())]),
            "shared": pa.chunked_array(
                [pa.array(part, pa.string()).dictionary_encode() for part in (shared[:3], shared[3:])]
            ),
        }
    )
    sink = io.BytesIO()
    write_csv(table, sink)
    read = list(csv.DictReader(io.StringIO(sink.getvalue().decode(), newline="")))
    for name, values in (("plain", plain), ("shared", shared)):
        expected = [value or "" for value in values]
        expected = ["'" + value if value.startswith(tuple("=+-@\t\r")) else value for value in expected]
        assert [row[name] for row in read] == expected


def test_a_table_is_written_in_pieces(monkeypatch):
    monkeypatch.setattr(views, "_CSV_ROWS", 2)
    sink = io.BytesIO()
    write_csv(pa.table({"n": range(5)}), sink)
    assert sink.getvalue() == b'"n"\n0\n1\n2\n3\n4\n'


def shown(tmp_path, **spec):
    outcome = engine.run(place(tmp_path, sweep(models=["resnet50"], **spec)))
    return views.default_view(tables.to_frame(outcome.table))


def test_what_varies_among_rivals_is_shown_and_what_does_not_is_not(tmp_path):
    plain = shown(tmp_path / "a", grid={"cores": [1, 2]})
    assert plain["cores×i"].tolist() == ["1×2", "2×2"]
    more = shown(tmp_path / "b", grid={"cores": [2], "ols": [1, 2], "mos": ["none", "cores"]})
    assert more["cores×i"].tolist() == [
        "2×2, ols 1, mos none", "2×2, ols 1, mos 2", "2×2, ols 2, mos none", "2×2, ols 2, mos 2",
    ]  # fmt: skip


def test_every_rival_of_a_tie_says_so():
    frame = pd.DataFrame(
        {"status": ["ok", "ok", "ok", "failed"], "tie": [True, True, False, False], "rank": [1, 2, 3, 0]}
    )
    statuses = [views._status(row) for row in frame.to_dict("records")]
    assert statuses == ["ok, tie", "ok, tie", "ok", "failed"]


def test_only_a_cards_own_numbers_are_compared_with_the_vendors_figures():
    row = {"backend": "qaic", "emulated": False, "objective": "best-throughput", "warnings": "random weights"}
    row |= {"throughput_images_s": 50.0, "lut_throughput_images_s": 100.0}
    assert views.against_lut(row) == "0.50×"
    for made_up in (
        {"backend": "onnxruntime"},
        {"emulated": True},
        {"warnings": "random weights; emulated-sdk"},
    ):
        assert views.against_lut({**row, **made_up}) == ""
