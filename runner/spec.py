"""The Sweep: what is wanted, as one strict model. CRD, JSON schema and reference are generated from it.

Stays inside what a structural Kubernetes schema can express: no unions but int-or-string, no
recursion, every list and string bounded. Rules that a schema can't hold are validators here;
arithmetic over the whole grid is in `cells`. A file or object becomes a Sweep in `sweepfile`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from runner import catalogue

API_VERSION = "aicsweep.dev/v1alpha1"
KIND = "Sweep"

BEST_THROUGHPUT, BEST_LATENCY, BALANCED = "best-throughput", "best-latency", "balanced"
Objective = Literal["best-throughput", "best-latency", "balanced"]
OBJECTIVES = (BEST_THROUGHPUT, BEST_LATENCY, BALANCED)
COMBINED = "combined"
ANY, EVERY_NODE, EVERY_DEVICE = "any", "everyNode", "everyDevice"
Precision = Literal["fp16", "fp32", "int8"]
Weights = Literal["pretrained", "random"]

# Words an axis may hold in place of a value: the look-up row's, none, as many as cores, as many as fit.
LUT, NONE, CORES, FILL = "lut", "none", "cores", "fill"
# Those that stand for another value in each cell, so that nothing can be excluded by them.
NOT_IN_EXCLUDE = {"instances": (FILL,), "mos": (LUT, CORES), "extra": (LUT,)}

# NSPs of one SoC by SKU (vendor's architecture page): the most cores x instances one card runs.
NSPS = {"std": 14, "pro": 16, "ultra": 16}

MAX_CELLS = 1_000_000
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


Name = Annotated[str, Field(min_length=1, max_length=253)]
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


class Measure(Strict):
    """How each point is measured; part of what a cell is."""

    seconds: float = Field(default=20.0, ge=0.05, le=3600, description="Length of one measuring window.")
    repeats: int = Field(
        default=5, ge=1, le=100, description="Independent windows; 5 or more give an interval."
    )
    neighbours: Literal["same-card-idle", "host-idle", "any"] = Field(
        default="same-card-idle", description="What else may run beside the measurement (qaic)."
    )


class Results(Strict):
    """Where results and artefacts go."""

    url: str = Field(
        default="",
        max_length=1024,
        description="A folder or s3://BUCKET/PREFIX. Empty: the command's --store or ./aicsweep-results; "
        "in a cluster the controller's default store.",
    )
    secret_name: str = Field(
        default="",
        max_length=253,
        description="Secret with AWS_* keys for the store, in the Sweep's namespace.",
    )


class Limits(Strict):
    """Brakes. A sweep over a limit is refused before anything runs."""

    max_cells: int = Field(
        default=10_000, ge=1, le=MAX_CELLS, description="Most cells the grid may expand to."
    )
    max_device_hours: float = Field(
        default=200.0, gt=0, le=1_000_000, description="Most hours of device time, estimated and used."
    )
    parallelism: int = Field(default=16, ge=1, le=1000, description="Most measure pods at once.")
    lot_minutes: float = Field(default=10.0, gt=0, le=240, description="Estimated device time of one task.")
    rounds: int = Field(default=3, ge=1, le=10, description="Most rounds over slots that are still wanted.")
    placement_minutes: float = Field(
        default=60.0, gt=0, le=10_080, description="How long everyNode and everyDevice wait for a target."
    )
    ttl_seconds_after_finished: int = Field(
        default=86_400, ge=0, le=31_536_000, description="When the Jobs of an ended Sweep are deleted."
    )


class Toleration(Strict):
    """A Kubernetes toleration."""

    key: str = Field(default="", max_length=317, description="Of the taint; empty with Exists: every taint.")
    operator: Literal["Exists", "Equal"] = Field(
        default="Equal", description="Exists tolerates whatever value the taint has."
    )
    value: str = Field(default="", max_length=63, description="Of the taint, with Equal.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="", description="Of the taint; empty: every effect."
    )


def _complete_toleration(toleration: Toleration) -> Toleration:
    """What the API server says of a pod's tolerations, said of the Sweep, where its author reads it."""
    if toleration.operator == "Exists" and toleration.value:
        raise PydanticCustomError("toleration", "operator Exists takes no value")
    if toleration.operator == "Equal" and not toleration.key:
        raise PydanticCustomError("toleration", "operator Equal needs a key")
    return toleration


_QUANTITY = r"^[1-9][0-9]*(Mi|Gi)$"


class PodResources(Strict):
    """CPU and memory of one kind of pod; requests equal limits."""

    cpu: int = Field(default=2, ge=1, le=1024, description="Whole CPUs.")
    memory: str = Field(default="8Gi", pattern=_QUANTITY, max_length=16, description="In Mi or Gi.")


Labels = dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]]


class Pods(Strict):
    """All that a Sweep may say of its pods: a closed list.

    In a cluster, what is left out is first taken from the installation (`pods` in the chart's values), field
    by field; a map or a list that is given replaces the installation's.
    """

    build: PodResources = Field(default=PodResources(), description="Pods that export and compile.")
    measure: PodResources = Field(default=PodResources(), description="Pods that hold a device.")
    build_image: str = Field(
        default="", max_length=512, description="Image of build pods. Empty: the controller's default."
    )
    measure_image: str = Field(
        default="", max_length=512, description="Image of measure pods. Empty: the controller's default."
    )
    image_pull_secrets: tuple[Name, ...] = Field(
        default=(), max_length=8, description="Secrets with registry credentials, in the Sweep's namespace."
    )
    build_node_selector: Labels = Field(
        default={}, max_length=16, description="Labels of nodes for build pods."
    )
    measure_node_selector: Labels = Field(
        default={}, max_length=16, description="Labels of nodes for measure pods."
    )
    tolerations: tuple[Annotated[Toleration, AfterValidator(_complete_toleration)], ...] = Field(
        default=(), max_length=16, description="Taints that all pods of the Sweep tolerate."
    )
    device_resource: str = Field(
        default="qualcomm.com/qaic", max_length=253, description="Extended resource of one device."
    )
    device_group: int = Field(
        default=995, ge=0, le=2_147_483_647, description="GID that may open the device."
    )
    shm_size: str = Field(
        default="2Gi", pattern=_QUANTITY, max_length=16, description="Size of /dev/shm in measure pods."
    )
    cache_claim: str = Field(
        default="", max_length=253, description="PersistentVolumeClaim with model weights."
    )
    hf_token_secret_name: str = Field(default="", max_length=253, description="Secret with the key HF_TOKEN.")
    queue_name: str = Field(default="", max_length=63, description="Kueue LocalQueue of all Jobs.")
    priority_class_name: str = Field(default="", max_length=253, description="PriorityClass of all pods.")
    build_on_device_nodes: bool = Field(default=False, description="Let export and compile run beside cards.")


class SweepSpec(Strict):
    """Models x objectives x grids to characterise, and how."""

    run: str = Field(
        default="1",
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="Free label of this measurement campaign; a new value measures everything anew.",
    )
    backend: Literal["onnxruntime", "qaic", "fake"] = Field(
        default="onnxruntime",
        description="qaic: AIC100 cards. onnxruntime: the CPU. fake: made-up numbers, said on every row.",
    )
    hardware: Literal["std", "pro", "ultra"] = Field(
        default="std", description="AIC100 SKU: std has 14 NSPs, pro and ultra 16. Verified on the card."
    )
    models: Models = Field(
        description="Catalogue names, groups (all, resnets, ...), torchvision:NAME, hf:OWNER/NAME[@REVISION], "
        "onnx:PATH.",
    )
    weights: Weights = Field(
        default="pretrained", description="random needs no download; it is said on every row."
    )
    objectives: Axis[Objective] = Field(
        default=("best-throughput",),
        description="Each takes its row of the look-up table as the base of the grid, and ranks by it.",
    )
    grid: Axes = Field(default=Axes(), description="An axis given here replaces that parameter of the base.")
    include: tuple[Points, ...] = Field(default=(), max_length=64, description="Additional grids.")
    exclude: tuple[Annotated[Points, AfterValidator(_plain_values)], ...] = Field(
        default=(),
        max_length=64,
        description="A point that has one of the values in every axis named is left out.",
    )
    measure: Measure = Measure()
    placement: Literal["any", "everyNode", "everyDevice"] = Field(
        default="any", description="any: each cell once. everyNode, everyDevice: each cell on each of them."
    )
    execution: Literal["split", "combined"] = Field(
        default="split", description="combined: each measure pod exports, compiles and runs by itself."
    )
    results: Results = Results()
    limits: Limits = Limits()
    pods: Pods = Pods()
    suspend: bool = Field(default=False, description="Start nothing new.")


class Metadata(BaseModel):
    """Of Kubernetes' object metadata, what a sweep needs; the rest is the API server's business."""

    # The longest name of a child's pod is `<name>-<8 characters>-measure-<wave>-<index>`; Kubernetes wants it
    # within 63 characters, with waves and indexes of up to five and four digits.
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(min_length=1, max_length=35, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    namespace: str = Field(default="default", max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    uid: str = Field(default="", max_length=64)
    generation: int = 0


class Sweep(BaseModel):
    """Models, objectives and grids to measure; and, in a cluster, how far that is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    apiVersion: Literal["aicsweep.dev/v1alpha1"]
    kind: Literal["Sweep"]
    metadata: Metadata
    spec: SweepSpec
    # Written by the controller; present when a Sweep is read back from a cluster.
    status: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return self.metadata.name

    def store_prefix(self, cluster: str = "local") -> str:
        """Where this sweep's plans, results and tables lie in the store."""
        return f"sweeps/{cluster}/{self.metadata.namespace}/{self.name}/{self.spec.run}"
