"""The tools' command lines, strictly: whatever is unknown or malformed is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# The emulator does not know the vendor's behaviour here, or a test must never ask for it.
NOT_EMULATED = 99
BAD_USAGE = 255

Convert = Callable[[str], Any]


class Refused(Exception):
    """The tool prints this and exits so."""

    def __init__(self, text: str, exit_code: int = BAD_USAGE) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def invalid(option: str) -> Refused:
    return Refused(f"Invalid option {option}. Use -h, -help, or --help for list of options.")


def integer(low: int, high: int | None = None) -> Convert:
    """A converter to a whole number within limits, both included."""

    def convert(text: str) -> int:
        if not text.isascii() or not text.lstrip("-").isdigit():
            raise ValueError(f"{text!r} is no whole number")
        value = int(text)
        if value < low or (high is not None and value > high):
            raise ValueError(f"{value} is outside {low}..{'' if high is None else high}")
        return value

    return convert


def integers(text: str) -> list[int]:
    return [integer(1)(part) for part in text.split(",")]


def ratio(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise ValueError(f"{value} is outside 0..1")
    return value


def choice(*allowed: str) -> Convert:
    def convert(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return convert


def convert(option: str, text: str, to: Convert) -> Any:
    try:
        return to(text)
    except ValueError as error:
        raise Refused(f"EMULATED: option {option}: {error}") from None


def refuse_unemulated(argv: Sequence[str], names: Iterable[str]) -> None:
    """Options the real tool has and this one must not or does not take, in whatever form they stand."""
    for word in argv:
        if word.startswith("-") and word.lstrip("-").partition("=")[0] in names:
            raise Refused(f"EMULATED: {word} is not emulated", NOT_EMULATED)


def parse_equals(
    argv: Sequence[str], flags: Mapping[str, Convert | None], repeated: frozenset[str]
) -> dict[str, Any]:
    """`-flag`, `-flag=value` (the compiler's form). None as converter: bare, or `=1`. The last one wins."""
    found: dict[str, Any] = {name: [] for name in repeated}
    for argument in argv:
        name, equals, text = argument[1:].partition("=")
        if not argument.startswith("-") or name not in flags:
            raise invalid(argument.partition("=")[0])
        to = flags[name]
        if to is None:
            if equals and text != "1":
                raise Refused(f"EMULATED: option -{name} takes no value {text!r}")
            found[name] = True
        elif not equals:
            raise Refused(f"EMULATED: option -{name} needs =VALUE")
        elif name in repeated:
            found[name].append(convert(f"-{name}", text, to))
        else:
            found[name] = convert(f"-{name}", text, to)
    return found


def parse_words(
    argv: Sequence[str],
    options: Mapping[str, Convert | None],
    aliases: Mapping[str, str],
    repeated: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """`-x value`, `--long value`, `--long=value`, long ones also with one dash (runner and query).

    `options` are named without dashes; `aliases` lead from short to long names.
    """
    found: dict[str, Any] = {name: [] for name in repeated}
    rest = iter(argv)
    for argument in rest:
        name, equals, text = argument.lstrip("-").partition("=")
        dashes = len(argument) - len(argument.lstrip("-"))
        short = len(name) == 1
        name = aliases.get(name, name) if not short or dashes == 1 else ""
        if dashes not in (1, 2) or name not in options or (short and equals):
            raise invalid(argument.partition("=")[0])
        to = options[name]
        if to is None:
            if equals:
                raise invalid(argument)
            found[name] = True
            continue
        if not equals:
            text = next(rest, "")
        if not text:
            raise Refused(f"EMULATED: option {argument} needs a value")
        value = convert(argument, text, to)
        found[name] = [*found[name], value] if name in repeated else value
    return found
