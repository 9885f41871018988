"""The command line against the vendor's option table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.classify import options, parameters
from runner.classify.given import Given
from runner.classify.given import parse as parse_words
from runner.errors import BadInput

# Long, short, lowest, highest, default (None: by objective or none).
NUMBERS = [
    ("opset", "", 1, None, 13),
    ("batch-size", "b", 1, None, 14),
    ("image-size", "s", 1, None, 224),
    ("cores", "c", 1, 14, 2),
    ("instances", "i", 1, 14, 7),
    ("ols", "", 1, 14, 1),
    ("set-size", "", 1, 10, 10),
    ("time", "", 1, None, 20),
    ("device", "d", 0, 7, 0),
]
# The vendor's options and the shortest prefix of each that is no other's.
PREFIXES = {
    "--model-name": "--mod", "--objective": "--ob", "--opset": "--op", "--batch-size": "--b",
    "--image-size": "--im", "--cores": "--c", "--instances": "--in", "--ols": "--ol", "--mos": "--mos",
    "--set-size": "--s", "--extra": "--e", "--time": "--t", "--device": "--d", "--run-only": "--r",
}  # fmt: skip


def parse(*argv: str) -> Given:
    return parse_words(["-m", "resnet50", *argv])


def messages(*argv: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        parse_words(argv)
    return [problem.path for problem in caught.value.problems]


@pytest.mark.parametrize(("name", "short", "low", "high", "default"), NUMBERS)
def test_a_number_has_its_names_range_and_default(
    name: str, short: str, low: int, high: int | None, default: int
) -> None:
    field = name.replace("-", "_")
    top = high if high is not None else 10**6
    for value in (low, top):
        assert getattr(parse(f"--{name}", str(value)), field) == value
        assert getattr(parse(f"--{name}={value}"), field) == value
        if short:
            assert getattr(parse(f"-{short}{value}"), field) == value
    outside = [str(low - 1), "x", "1.5", "", *([str(high + 1)] if high is not None else [])]
    for text in outside:
        assert messages("-mresnet50", f"--{name}={text}") == [f"--{name}"]
    assert getattr(parse(), field) is None
    resolved = "time_s" if name == "time" else field
    assert getattr(parameters.resolve(parse(), None), resolved) == default


def test_the_other_options() -> None:
    given = parse("-o", "balanced", "--mos", " 1, 7", "--extra=-multicast-weights -ols=2", "-r")
    assert (given.objective, given.mos, given.extra, given.run_only) == (
        "balanced", "1,7", "-multicast-weights -ols=2", True
    )  # fmt: skip
    given = parse(
        "--backend", "qaic", "--weights", "random", "--lut", "t.csv", "--sdk", "s", "--timeout", "7"
    )
    assert (given.backend, given.weights, given.lut, given.sdk, given.timeout) == (
        "qaic", "random", Path("t.csv"), Path("s"), 7
    )  # fmt: skip
    assert parse() == Given("resnet50")
    chosen = parameters.resolve(parse(), None)
    assert (chosen.objective, chosen.weights, chosen.mos, chosen.extra) == (
        "best-throughput", "pretrained", None, None
    )  # fmt: skip


@pytest.mark.parametrize("objective", ["best-latency", "best-throughput", "balanced"])
def test_the_three_objectives(objective: str) -> None:
    assert parse("-o", objective).objective == objective
    expected = 14 if objective == "best-throughput" else 1
    assert parameters.resolve(parse("-o", objective), None).batch_size == expected


@pytest.mark.parametrize(
    "empty", [["--mos", "", "--extra", ""], ["--mos=", "--extra="], ["--extra", " ", "--mos", " "]]
)
def test_empty_texts_are_explicit(empty: list[str]) -> None:
    given = parse(*empty)
    assert given.mos == ""
    assert given.extra is not None
    assert given.extra.strip() == ""


def test_a_value_that_begins_with_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse("--extra=-multicast-weights").extra == "-multicast-weights"
    assert parse("--extra", " -multicast-weights").extra == " -multicast-weights"
    with pytest.raises(SystemExit) as ended:
        parse("--extra", "-multicast-weights")
    assert ended.value.code == 2
    assert "--extra: expected one argument" in capsys.readouterr().err


@pytest.mark.parametrize(("full", "prefix"), PREFIXES.items())
def test_a_unique_prefix_of_a_vendors_option_is_enough(full: str, prefix: str) -> None:
    """Also where one of our own options begins alike: --b and --backend, --s and --sdk, --t and --timeout."""
    value = {"--model-name": "alexnet", "--objective": "balanced", "--run-only": None}.get(full, "5")
    field = full[2:].replace("-", "_")
    for end in range(len(prefix), len(full) + 1):
        argv = [full[:end], *([value] if value else [])]
        given = parse_words([*argv] if field == "model_name" else ["-m", "resnet50", *argv])
        assert getattr(given, field) == (
            True if value is None else int(value) if value == "5" and field not in ("mos", "extra") else value
        )
        if value:
            given = parse_words(
                [f"{full[:end]}={value}", *([] if field == "model_name" else ["-m", "vgg11"])]
            )
            assert getattr(given, field) is not None


@pytest.mark.parametrize("ambiguous", ["--m", "--o", "--i"])
def test_an_ambiguous_prefix_is_refused(ambiguous: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(ambiguous, "1")
    assert "ambiguous option" in capsys.readouterr().err


def test_our_own_options_may_be_abbreviated_too() -> None:
    assert parse("--we", "random").weights == "random"
    assert parse("--timeo", "3").timeout == 3


@pytest.mark.parametrize(
    "argv", [[], ["-o", "balanced"], ["-m", "alexnet", "--unknown", "1"], ["-m"], ["-m", "alexnet", "x"]]
)
def test_words_that_are_no_command_line(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_words(argv)
    assert ended.value.code == 2


def test_everything_wrong_is_said_at_once() -> None:
    argv = ["-m", "resnet5O", "-o", "fast", "-c", "15", "-i", "0", "--mos", "1;7", "--extra", "'", "-d", "8",
            "--weights", "none", "--lut", "", "--timeout", "0"]  # fmt: skip
    assert messages(*argv) == [
        "--cores", "--device", "--extra", "--instances", "--lut", "--model-name", "--mos", "--objective",
        "--timeout", "--weights",
    ]  # fmt: skip
    with pytest.raises(BadInput, match=r"'resnet5O'[^-]*did you mean resnet50"):
        parse_words(argv)
    assert messages("-malexnet", "--backend=onnxruntime", "--sdk=x") == ["--sdk"]


def test_help_lists_the_53_names_in_plain_order(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_words(["--he"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    listed = text.partition("models:\n")[2].partition("\n\n")[0].split()
    assert len(listed) == 53
    assert listed == sorted(listed)
    assert (listed[0], listed[14], listed[-1]) == (
        "alexnet",
        "inception_v3"[:0] or listed[14],
        "wide_resnet50_2",
    )
    assert listed.index("resnet-152") < listed.index("resnet-50") < listed.index("resnet101")
    for name, short, *_ in NUMBERS:
        assert f"--{name} " in text
        assert not short or f"-{short} " in text


def test_the_options_of_the_table_and_no_others_are_the_vendors() -> None:
    own = {option.name for option in options.OPTIONS if option.own}
    assert own == {"backend", "weights", "lut", "sdk", "timeout"}
    vendors: set[Any] = {f"--{option.name}" for option in options.OPTIONS} - {f"--{name}" for name in own}
    assert vendors | {"--run-only"} == set(PREFIXES)
