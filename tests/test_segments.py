"""Segments read back: what is damaged is named, and the others count."""

import pytest
import zstandard

from runner import segments
from runner.segments import parse_segments
from tests.test_merge import ok, segment


def test_a_segment_comes_back_as_it_was():
    results = parse_segments([("a", segment(ok("s", 2.5), ok("t"), tools={"x": "1"}))])
    rows = results.table.to_pylist()
    assert [(r["slot"], r["throughput_images_s"]) for r in rows] == [("s", 2.5), ("t", 1.0)]
    assert results.header("round", [1, 0, None]).to_pylist() == [1, 1, None]
    assert results.header("tools", [1]).to_pylist() == ['{"x":"1"}']


def test_a_damaged_segment_is_named_and_the_others_count():
    whole = segment(ok("s"))
    results = parse_segments(
        [("cut", whole[:-9]), ("good", whole), ("empty", b""), ("flipped", whole[:20] + b"\xff" + whole[21:])]
    )
    assert results.segments == ("good",)
    assert set(results.damaged) == {"cut", "empty", "flipped"}


def tampered(change) -> bytes:
    """A segment that decompresses well and does not hold what it should."""
    text = zstandard.ZstdDecompressor().decompress(segment(ok("s"), ok("t")))
    return zstandard.ZstdCompressor().compress(change(text))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"ok"', b'"ok","ok"'),
        lambda text: text + text.splitlines(keepends=True)[-1],
        lambda text: text.replace(b'"rows":2', b'"rows":"2"'),
        lambda text: text.replace(b'"schema":1', b'"schema":2'),
        lambda text: text.replace(b",0,", b",zero,"),
        lambda text: text[: text.index(b"\n")],
        lambda text: b"",
    ],
)
def test_a_segment_of_nonsense_is_named_and_its_neighbours_count(change):
    whole = segment(ok("u"))
    results = parse_segments([("before", whole), ("bad", tampered(change)), ("after", whole)])
    assert results.segments == ("before", "after")
    assert set(results.damaged) == {"bad"}
    assert results.table["slot"].to_pylist() == ["u", "u"]
    assert results.table["segment"].to_pylist() == [0, 1]


def test_segments_of_another_version_have_fewer_or_more_columns():
    def renamed(text: bytes) -> bytes:
        return text.replace(b'"warnings"', b'"of_the_future"')

    results = parse_segments(
        [("now", segment(ok("s"))), ("other", tampered(renamed)), ("again", segment(ok("u")))]
    )
    assert results.damaged == {}
    assert results.table["slot"].to_pylist() == ["s", "s", "t", "u"]
    assert results.table["warnings"].to_pylist() == ["", None, None, ""]


def test_many_small_segments_are_parsed_in_several_goes(monkeypatch):
    monkeypatch.setattr(segments, "PARSE_BYTES", 1000)
    parts = [(f"{n}", segment(ok(f"s{n}", device=f"d{n % 3}"), lot=n)) for n in range(30)]
    results = parse_segments(parts)
    assert results.table["slot"].to_pylist() == [f"s{n}" for n in range(30)]
    assert results.table["device"].to_pylist() == [f"d{n % 3}" for n in range(30)]
    assert results.header("lot", list(range(30))).to_pylist() == list(range(30))
