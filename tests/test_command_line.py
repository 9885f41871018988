"""Times as they are typed, and how a command line ends."""

from __future__ import annotations

import click
import pytest

from runner import cli_store
from runner.command_line import CENTURY, Duration, guarded
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
    assert Duration("1ms", CENTURY, plain=True).convert(text, None, None) == value


@pytest.mark.parametrize("text", ["", "soon", "-1m", "infh", "nan", "3w", "1m soon"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no time such as"):
        Duration("1ms", CENTURY, plain=True).convert(text, None, None)


def test_a_number_has_a_unit_where_it_may_be_meant_in_days() -> None:
    with pytest.raises(click.UsageError, match="is no time such as"):
        Duration("1ms", CENTURY).convert("7", None, None)


@pytest.mark.parametrize("text", ["0", "0s", "20m", "99999999999d", pytest.param("9" * 400 + "d", id="inf")])
def test_a_time_has_its_bounds(text: str) -> None:
    with pytest.raises(click.UsageError, match="must be at least 1s and at most 600s"):
        Duration("1s", "600s", plain=True).convert(text, None, None)


@pytest.mark.parametrize("text", ["36501d", "99999999999d", pytest.param("9" * 400 + "d", id="inf")])
def test_what_no_date_can_hold_is_no_age(text: str) -> None:
    with pytest.raises(click.UsageError, match="must be at least 0s and at most 36500d"):
        cli_store.gc(["memory:", "--older-than", text], standalone_mode=False)


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
