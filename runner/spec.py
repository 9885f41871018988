"""The Sweep: what is wanted, as one strict model. CRD, JSON schema and reference are generated from it.

Stays inside what a structural Kubernetes schema can express: no unions but int-or-string, no
recursion, every list and string bounded. Rules that a schema can't hold are validators here;
arithmetic over the whole grid is in `cells`. A file or object becomes a Sweep in `sweepfile`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from runner import condition
from runner.axes import Axes, Axis, Exclusion, Models, Objective, Points, Strict
from runner.pod_settings import Pods

API_VERSION = "aicsweep.dev/v1alpha1"
KIND = "Sweep"
COMBINED = "combined"
ANY, EVERY_NODE, EVERY_DEVICE = "any", "everyNode", "everyDevice"
Weights = Literal["pretrained", "random"]
MAX_CELLS = 1_000_000
MAX_AGAIN = 32
_LABEL = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"


def _condition(text: str) -> str:
    try:
        condition.parse(text)
    except ValueError as error:
        raise PydanticCustomError("condition", "{text}", {"text": str(error)}) from error
    return text


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


class Again(Strict):
    """A request to measure some slots again. Their older results are kept, and shown until there are new ones."""

    id: str = Field(
        min_length=1,
        max_length=63,
        pattern=_LABEL,
        description="Name of the request. It chooses its slots once, when it is planned for the first time; "
        "`kubectl aicsweep retry` and `remeasure` take the moment.",
    )
    where: Annotated[str, AfterValidator(_condition)] = Field(
        min_length=1,
        max_length=condition.MAX_CHARACTERS,
        description="Which rows of the table, of those with a verdict, as for `aicsweep table --where`: "
        "status == 'failed'; warnings or ci > 2%.",
    )


def _distinct_ids(requests: tuple[Again, ...]) -> tuple[Again, ...]:
    ids = [request.id for request in requests]
    for number, id_ in enumerate(ids):
        if id_ in ids[:number]:
            raise PydanticCustomError("duplicate", "two requests have the id {id}", {"id": repr(id_)})
    return requests


class SweepSpec(Strict):
    """Models x objectives x grids to characterise, and how."""

    run: str = Field(
        default="1",
        min_length=1,
        max_length=63,
        pattern=_LABEL,
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
    exclude: tuple[Exclusion, ...] = Field(
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
    again: Annotated[tuple[Again, ...], AfterValidator(_distinct_ids)] = Field(
        default=(),
        max_length=MAX_AGAIN,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]},
        description="What to measure again, oldest request first.",
    )
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
