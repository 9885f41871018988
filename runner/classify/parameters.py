"""Every parameter of a run: the option, else the look-up row's field, else the default. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner import cells
from runner.axes import BEST_THROUGHPUT
from runner.catalogue import MODELS
from runner.cells import Cell
from runner.classify.given import Given
from runner.classify.options import DEFAULT_DEVICE, DEFAULT_TIME_S, PRETRAINED, QAIC
from runner.lut import LutRow

PRECISIONS = {QAIC: "fp16"}
CPU_PRECISION = "fp32"


@dataclass(frozen=True)
class Parameters:
    """One point. Empty MOS and extra flags are None; `time_s` and `device` are the run's."""

    model: str
    objective: str
    weights: str
    opset: int
    image_size: int
    batch_size: int
    cores: int
    ols: int
    mos: str | None
    extra: str | None
    instances: int
    set_size: int
    time_s: int
    device: int

    @property
    def source(self) -> str:
        return MODELS[self.model].source

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.batch_size, 3, self.image_size, self.image_size)

    def cell(self, backend: str) -> Cell:
        """The same point as a sweep has it; no SKU and no idle neighbours are asked for."""
        return Cell(
            source=self.source, weights=self.weights, image_size=self.image_size, opset=self.opset,
            precision=precision(backend), backend=backend, batch_size=self.batch_size, cores=self.cores,
            instances=self.instances, set_size=self.set_size, seconds=float(self.time_s), repeats=1,
            ols=self.ols, mos=self.mos, extra=self.extra,
        )  # fmt: skip


# Fields that decide the graph, and with it the binary; the others belong to the run alone.
EXPORTED = ("weights", "opset", "image_size")
COMPILED = ("batch_size", "cores", "ols", "mos", "extra")


def precision(backend: str) -> str:
    """fp16 on a card; a CPU runs the graph as it is."""
    return PRECISIONS.get(backend, CPU_PRECISION)


def objective_of(given: Given) -> str:
    return given.objective or BEST_THROUGHPUT


def resolve(given: Given, row: LutRow | None) -> Parameters:
    """Field by field. `row` is that of model and objective; None where the table has none."""
    objective = objective_of(given)
    base, found = cells.base_of(row, objective), row or LutRow()
    mos = given.mos if given.mos is not None else found.mos
    extra = given.extra if given.extra is not None else found.extra
    return Parameters(
        model=given.model_name,
        objective=objective,
        weights=given.weights or PRETRAINED,
        opset=given.opset or cells.DEFAULT_OPSET,
        image_size=given.image_size or found.image_size or MODELS[given.model_name].image_size,
        batch_size=given.batch_size or base.batch_size,
        cores=given.cores or base.cores,
        ols=given.ols or base.ols,
        mos="".join((mos or "").split()) or None,
        extra=(extra or "").strip() or None,
        instances=given.instances or base.instances,
        set_size=given.set_size or base.set_size,
        time_s=given.time or DEFAULT_TIME_S,
        device=DEFAULT_DEVICE if given.device is None else given.device,
    )


def on_cpu(parameters: Parameters, given: Given, cores: int) -> Parameters:
    """The row's and the defaults' cores and instances are a card's: lowered to what a CPU of `cores` has.
    An option is never changed."""
    p = parameters
    instances = p.instances if given.instances else min(p.instances, max(1, cores // (given.cores or 1)))
    own = p.cores if given.cores else min(p.cores, max(1, cores // instances))
    return replace(p, cores=own, instances=instances)
