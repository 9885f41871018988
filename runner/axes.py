"""The axes of a grid: parameters, the values and words each may hold, and what a filter may name.

Part of the Sweep's model (`spec`), within what a structural Kubernetes schema can express: no unions but
int-or-string, every list and string bounded.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from runner import catalogue

BEST_THROUGHPUT, BEST_LATENCY, BALANCED = "best-throughput", "best-latency", "balanced"
Objective = Literal["best-throughput", "best-latency", "balanced"]
OBJECTIVES = (BEST_THROUGHPUT, BEST_LATENCY, BALANCED)
Precision = Literal["fp16", "fp32", "int8"]

# Words an axis may hold in place of a value: the look-up row's, none, as many as cores, as many as fit.
LUT, NONE, CORES, FILL = "lut", "none", "cores", "fill"
# Those that stand for another value in each cell, so that nothing can be excluded by them.
NOT_IN_EXCLUDE = {"instances": (FILL,), "mos": (LUT, CORES), "extra": (LUT,)}

# NSPs of one SoC by SKU (vendor's architecture page): the most cores x instances one card runs.
NSPS = {"std": 14, "pro": 16, "ultra": 16}

MAX_CORES = 1024
MAX_MOS = 16
_MOS_TEXT = rf"^({LUT}|{NONE}|{CORES}|([1-9]|1[0-6])(,([1-9]|1[0-6])){{0,15}})$"

T = TypeVar("T")


def _unique(values: tuple[T, ...]) -> tuple[T, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise PydanticCustomError("duplicate", "{value} stands twice in the list", {"value": repr(value)})
    return values


def _model_reference(reference: str) -> str:
    try:
        catalogue.resolve(reference)
    except LookupError as error:
        raise PydanticCustomError("model", "{text}", {"text": str(error)}) from error
    return reference


def _distinct_models(references: tuple[str, ...]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    for reference in references:
        if reference in catalogue.GROUPS:
            continue
        source = catalogue.resolve(reference)[0].source
        if source in seen:
            raise PydanticCustomError(
                "duplicate",
                "{second} is the same model as {first}",
                {"second": repr(reference), "first": repr(seen[source])},
            )
        seen[source] = reference
    return references


def _instances(value: int | str) -> int | str:
    if isinstance(value, str) and value != FILL:
        raise PydanticCustomError("instances", "{value} is neither a count nor fill", {"value": repr(value)})
    return _within(value, MAX_CORES)


def _mos(value: int | str) -> int | str:
    if isinstance(value, str) and not re.fullmatch(_MOS_TEXT, value):
        raise PydanticCustomError(
            "mos",
            "{value} is not a MOS: a number, a list such as '1,7' (one per SDP cluster), lut, none or cores",
            {"value": repr(value)},
        )
    return _within(value, MAX_MOS)


def _within(value: int | str, most: int) -> int | str:
    if isinstance(value, int) and not 1 <= value <= most:
        text = "{value} is less than 1" if value < 1 else "{value} is more than {most}"
        raise PydanticCustomError("range", text, {"value": value, "most": most})
    return value


def _int_or_text(most: int, pattern: str, max_length: int) -> WithJsonSchema:
    """The schema of a number from 1 to `most`, or a text; the validators say the same in words."""
    number = {"type": "integer", "minimum": 1, "maximum": most}
    return WithJsonSchema(
        {"anyOf": [number, {"type": "string", "pattern": pattern, "maxLength": max_length}]}
    )


class Strict(BaseModel):
    """Unknown keys are errors, values are immutable, names in YAML are camelCase."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, validate_default=False
    )


ModelReference = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_model_reference)]
Instances = Annotated[int | str, AfterValidator(_instances), _int_or_text(MAX_CORES, f"^{FILL}$", len(FILL))]
Mos = Annotated[int | str, AfterValidator(_mos), _int_or_text(MAX_MOS, _MOS_TEXT, 64)]
_DISTINCT: Any = {"uniqueItems": True}
Axis = Annotated[
    tuple[T, ...],
    Field(min_length=1, max_length=64, json_schema_extra=_DISTINCT),
    AfterValidator(_unique),
]
Models = Annotated[
    tuple[ModelReference, ...],
    Field(min_length=1, max_length=256, json_schema_extra=_DISTINCT),
    AfterValidator(_unique),
    AfterValidator(_distinct_models),
]


def _axis(description: str) -> Any:
    return Field(default=None, description=description)


class Axes(Strict):
    """Values to try, one list per parameter; the points are their cross product."""

    cores: Axis[Annotated[int, Field(ge=1, le=MAX_CORES)]] | None = _axis(
        "Cores (NSPs) of one instance. On onnxruntime: threads, each on a physical core of its own."
    )
    instances: Axis[Instances] | None = _axis(
        "Instances side by side, or `fill`: as many as fit beside the given cores."
    )
    batch_size: Axis[Annotated[int, Field(ge=1, le=4096)]] | None = _axis("Images per inference.")
    set_size: Axis[Annotated[int, Field(ge=1, le=64)]] | None = _axis("Inferences in flight per instance.")
    ols: Axis[Annotated[int, Field(ge=1, le=16)]] | None = _axis(
        "Compiler's factor of splitting operations (qaic)."
    )
    mos: Axis[Mos] | None = _axis(
        "Cores an output channel is split over (qaic): a number, a list such as '1,7' for SDP clusters, "
        "`lut` (the look-up row's), `none` or `cores` (as many as the instance has)."
    )
    image_size: Axis[Annotated[int, Field(ge=8, le=4096)]] | None = _axis(
        "Edge of the square input in pixels; by default the model's own."
    )
    opset: Axis[Annotated[int, Field(ge=9, le=25)]] | None = _axis("ONNX opset of the export; 13 by default.")
    precision: Axis[Precision] | None = _axis(
        "Number format of the compiled model; by default the backend's (qaic fp16, onnxruntime fp32)."
    )
    extra: Axis[Annotated[str, Field(max_length=1024)]] | None = _axis(
        "Further compiler flags (qaic), each entry one shell-quoted text; `lut` takes the look-up row's, "
        "an empty text passes none."
    )


class Points(Axes):
    """An additional grid, or a filter, for some models and objectives."""

    models: Models | None = Field(default=None, description="Only these models; all if absent.")
    objectives: Axis[Objective] | None = Field(
        default=None, description="Only these objectives; all if absent."
    )


def _plain_values(points: Points) -> Points:
    for name, unfit in NOT_IN_EXCLUDE.items():
        for value in getattr(points, name) or ():
            if value in unfit:
                raise PydanticCustomError(
                    "exclude",
                    "{value} in {name} names no value; exclude by the value it stands for",
                    {"value": repr(value), "name": name},
                )
    return points


Exclusion = Annotated[Points, AfterValidator(_plain_values)]
