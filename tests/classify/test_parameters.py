"""Precedence against an obvious reference, what does not fit, and the changes that would."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from runner import lut
from runner.backends import Capacity
from runner.catalogue import MODELS
from runner.classify import fit, parameters
from runner.classify.given import Given
from runner.classify.given import parse as parse_words
from runner.lut import LutRow

NUMBERS = {
    "batch_size": 64, "image_size": 600, "cores": 14, "instances": 14, "ols": 14, "set_size": 10,
}  # fmt: skip
TEXTS = {
    "mos": ["1", "2", "12", "1,7", "6,6"],
    "extra": ["-multicast-weights", "-sdp-cluster-sizes=7,7", "-a -b=1"],
}
MODEL = st.sampled_from(["resnet50", "efficientnet_b7", "vit_b_16", "inception_v3", "resnet-152"])
OBJECTIVE = st.sampled_from([None, "best-throughput", "best-latency", "balanced"])


def _fields(texts: dict[str, list[str]]) -> st.SearchStrategy[dict[str, Any]]:
    optional: dict[str, Any] = {name: st.integers(1, high) for name, high in NUMBERS.items()}
    optional |= {name: st.sampled_from(values) for name, values in texts.items()}
    return st.fixed_dictionaries({}, optional=optional)


GIVEN = _fields({name: [*values, ""] for name, values in TEXTS.items()})
ROW = st.none() | _fields(TEXTS)


@for_all(MODEL, OBJECTIVE, GIVEN, ROW)
def test_option_then_row_then_default_field_by_field(
    model: str, objective: str | None, asked: dict[str, Any], row: dict[str, Any] | None
) -> None:
    chosen = parameters.resolve(Given(model, objective, **asked), None if row is None else LutRow(**row))
    defaults = {
        "batch_size": 14 if objective in (None, "best-throughput") else 1,
        "image_size": {"efficientnet_b7": 600, "inception_v3": 299}.get(model, 224),
        "cores": 2, "instances": 7, "ols": 1, "set_size": 10, "mos": "", "extra": "",
    }  # fmt: skip
    for name, value in {**defaults, **(row or {}), **asked}.items():
        assert (getattr(chosen, name) or "") == value, name
    assert (chosen.opset, chosen.time_s, chosen.device, chosen.weights) == (13, 20, 0, "pretrained")
    assert chosen.objective == (objective or "best-throughput")


@for_all(MODEL, GIVEN, ROW, st.sampled_from([1, 8, 14, 16]))
def test_the_changes_said_would_fit(
    model: str, asked: dict[str, Any], row: dict[str, Any] | None, cores: int
) -> None:
    asked = {name: value for name, value in asked.items() if name not in ("image_size", "batch_size")}
    found, capacity = None if row is None else LutRow(**row), Capacity(cores, "NSPs of a card")

    def problems(given: Given) -> list[Any]:
        chosen = dataclasses.replace(parameters.resolve(given, found), batch_size=1, image_size=224)
        chosen = dataclasses.replace(chosen, image_size=MODELS[model].image_size)
        return fit.problems(chosen, given, found, capacity, compiles=True)

    given = Given(model, None, **asked)
    changes = fit.fitting(parameters.resolve(given, found), given, capacity, compiles=True)
    assert bool(problems(given)) == bool(changes)
    argv = [f"{name}={value}" for name, value in changes.items()]
    changed = parse_words(["-m", model, *argv])
    kept = {
        name: value
        for name, value in vars(changed).items()
        if value is not None and name in asked | NUMBERS | TEXTS
    }
    assert problems(dataclasses.replace(given, **kept)) == []
    # What was not asked for gives way first.
    if "instances" in asked and "cores" not in asked and asked["instances"] <= cores:
        assert "--instances" not in changes


@for_all(GIVEN, ROW, st.integers(1, 64))
def test_on_a_cpu_a_cards_division_is_lowered_and_an_option_never(
    asked: dict[str, Any], row: dict[str, Any] | None, cores: int
) -> None:
    given = Given("resnet50", None, **asked)
    chosen = parameters.resolve(given, None if row is None else LutRow(**row))
    lowered = parameters.on_cpu(chosen, given, cores)
    if not (asked.keys() & {"cores", "instances"}):
        assert lowered.cores * lowered.instances <= cores
    for name in ("cores", "instances"):
        value = getattr(lowered, name)
        assert 1 <= value <= getattr(chosen, name)
        assert name not in asked or value == asked[name]
    if chosen.cores * chosen.instances <= cores:
        assert lowered == chosen


def problems_of(*argv: str, nsps: int | None = 14) -> list[str]:
    given = parse_words(argv)
    row = lut.shipped().get((given.model_name, parameters.objective_of(given)))
    chosen = parameters.resolve(given, row)
    capacity = None if nsps is None else Capacity(nsps, "NSPs of card 0")
    return [str(problem) for problem in fit.problems(chosen, given, row, capacity, compiles=True)]


def test_an_overridden_row_that_still_fits_is_no_problem() -> None:
    # 7 x 2 becomes 4 x 2.
    assert problems_of("-mresnet50", "-c4") == []


def test_more_cores_than_the_card_has_are_said_with_the_row_and_the_change() -> None:
    (text,) = problems_of("-mresnet50", "--cores=14")
    assert "14 cores x 2 instances need 28, there are 14 (NSPs of card 0)" in text
    assert "row of resnet50, best-throughput has batch 13, cores 7, instances 2, ols 2, mos 1" in text
    assert text.endswith("; --instances 1 would fit")
    assert problems_of("-mresnet50", "--cores=14", nsps=None) == []


def test_a_rows_mos_and_clusters_that_no_longer_fit() -> None:
    (text,) = problems_of("-mresnet50", "-obest-latency", "-c4")
    assert text.startswith("--mos: mos 12 is more than 4 cores")
    assert text.endswith("; --mos 4 would fit")
    first, second = problems_of("-mresnet-50", "-obest-latency", "-c6")
    assert first.startswith("--extra: -sdp-cluster-sizes=7,7 adds up to 14 cores, not 6")
    assert first.endswith('--extra="-multicast-weights -use-producer-dma=1" --mos="" would fit')
    assert second == "--mos: mos 1,7 is more than 6 cores"
    (text,) = problems_of("-mresnet-50", "-obest-latency", "--extra=")
    assert text.startswith("--mos: mos 1,7 has a value for each of 2 clusters, there are no clusters")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-mvit_b_16", "-s384"], "accepts 224 pixels only"),
        (["-mvit-base-patch16-224", "-s225"], "accepts 224 pixels only"),
        (["-minception_v3", "-s74"], "needs images of at least 75 pixels"),
        (["-malexnet", "-b100000"], "takes 56.1 GiB, the limit is 1 GiB\n    --batch-size 1783 would fit"),
    ],
)
def test_sizes_that_can_not_be(argv: list[str], says: str) -> None:
    (text,) = problems_of(*argv)
    assert says in text


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    assert (
        len(problems_of("-mvit_b_16", "-s99", "-c8", "-i3", "--mos=9", "--extra=-sdp-cluster-sizes=1,2")) == 4
    )


def test_every_row_of_the_shipped_table_fits_a_card_of_14() -> None:
    for model, objective in lut.shipped():
        assert problems_of("-m", model, "-o", objective) == []
