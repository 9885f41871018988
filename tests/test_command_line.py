"""Times as they are typed, and how a command line ends."""

from __future__ import annotations

import click
import pytest

from runner.command_line import Duration, guarded
from runner.errors import BadInput, Interrupted, Problem, StoreError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90),
        ("2m", 120),
        ("24h", 86400),
        ("0.5", 0.5),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("7d", 604_800),
    ],
)
def test_times(text: str, value: float) -> None:
    assert Duration(plain=True).convert(text, None, None) == value


@pytest.mark.parametrize("text", ["", "soon", "-1m", "infh", "nan", "3w", "1m soon"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no time such as"):
        Duration(plain=True).convert(text, None, None)


def test_a_number_has_a_unit_where_it_may_be_meant_in_days() -> None:
    with pytest.raises(click.UsageError, match="is no time such as"):
        Duration().convert("7", None, None)


@pytest.mark.parametrize("text", ["0", "0s", "20m"])
def test_a_time_has_its_bounds(text: str) -> None:
    with pytest.raises(click.UsageError, match="must be at least 1s and at most 600s"):
        Duration("1s", "600s", plain=True).convert(text, None, None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput([Problem("spec", "is wrong")]), 2),
        (click.UsageError("no such option"), 2),
        (StoreError("away"), 3),
        (Interrupted("asked to stop"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_is_meant_for_people_is_a_text_and_an_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def fails() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["it"])
    with pytest.raises(SystemExit) as ended:
        guarded(fails, "it")
    assert ended.value.code == code
    assert str(getattr(error, "message", "")) in capsys.readouterr().err
