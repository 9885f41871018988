import math
from dataclasses import asdict, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import result
from runner.result import Result, decode_segment, encode_segment, parse_rows

KINDS = {
    "str": st.text(st.characters(codec="utf-8"), max_size=20),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "int | None": st.none() | st.integers(0, 2**62),
    "float | None": st.none() | st.floats(),
}
RESULTS = st.builds(Result, **{field.name: KINDS[str(field.type)] for field in fields(Result)})


@settings(max_examples=100, deadline=None)
@given(st.lists(RESULTS, max_size=3), st.text(st.characters(codec="utf-8"), max_size=9))
def test_results_come_back_whatever_they_say(results, tool):
    segment = decode_segment(encode_segment({"tools": tool}, results))
    assert segment.header["tools"] == tool
    rows = parse_rows([segment, segment]).to_pylist()
    # What is not a number was not measured.
    expected = [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(r).items()
        }
        for r in results
    ]
    assert rows == expected * 2


@pytest.mark.parametrize("wrong", [{"device_s": "fast"}, {"latency_n": "5"}, {"slot": 7}])
def test_a_value_of_another_type_is_refused_when_it_is_written(wrong):
    values = {"slot": "s", "epoch": 0, "status": "ok", "started_at": "", "device_s": 1.0, **wrong}
    with pytest.raises((ValueError, TypeError)):
        encode_segment({}, [Result(**values)])


def test_a_segment_of_more_text_than_any_writer_makes_is_not_unpacked(monkeypatch):
    segment = encode_segment({}, [])
    monkeypatch.setattr(result, "SEGMENT_TEXT_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        decode_segment(segment)
