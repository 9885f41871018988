"""The emulated runner: takes NSPs of a card, runs the graph once with ONNX Runtime for the output files,
and reports the rates and latencies of `performance`."""

from __future__ import annotations

import math
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from . import faults, inference, performance, qpc, report
from .cards import Seen
from .entry import Invocation
from .options import NOT_EMULATED, Convert, Refused, choice, integer, parse_words, refuse_unemulated
from .report import Observed
from .styles import Style

_OPTIONS: dict[str, Convert | None] = {
    "test-data": str, "aic-device-id": integer(0), "aic-num-of-activations": integer(1),
    "num-iter": integer(1), "time": integer(1), "set-size": integer(1), "input-file": str, "T": integer(1),
    "aic-batch-json-input": str, "aic-profiling-num-samples": integer(1),
    "aic-profiling-type": choice("stats", "trace", "latency", "trace_stream", "latency_stream"),
    "aic-profiling-start-iter": integer(0), "aic-profiling-start-delay": integer(0),
    "aic-profiling-out-dir": str, "write-output-start-iter": integer(0),
    "write-output-num-samples": integer(0), "write-output-dir": str, "submit-timeout": integer(0),
    "submit-retry-count": integer(0), "v": None,
}  # fmt: skip
_UNEMULATED = ("s", "stats", "D", "dev-list", "aic-batch-input-file-list", "aic-batch-input-directory",
               "auto-batch-input")  # fmt: skip
_ALIASES = {
    "t": "test-data", "d": "aic-device-id", "dev": "aic-device-id", "a": "aic-num-of-activations",
    "n": "num-iter", "S": "set-size", "i": "input-file",
}  # fmt: skip
_DEFAULTS = {
    "aic-device-id": 0, "aic-num-of-activations": 1, "set-size": 10, "aic-profiling-num-samples": 1,
    "aic-profiling-start-iter": 0, "aic-profiling-start-delay": 0, "aic-profiling-out-dir": ".",
    "write-output-start-iter": 0, "write-output-num-samples": 1, "write-output-dir": ".",
}  # fmt: skip
# Profiling by statistics or trace lowers the throughput badly; by how much is made up.
_PROFILED = 0.3


def run(call: Invocation) -> int:
    style = call.state.style
    options = _options(call.argv, style)
    card = _card(call, options["aic-device-id"])
    program, onnx = qpc.read(Path(options["test-data"]))
    inputs = inference.inputs(program, options.get("aic-batch-json-input"), options["input-file"])
    held = call.state.reserve(card.qid, program.cores * options["aic-num-of-activations"])
    if held is None:
        raise _exhausted(card.qid)
    fault = call.state.take_fault("runner", _facts(options, program), call.argv)
    if not inputs:
        print("Using bounded random inputs", flush=True)
    _refuse(fault, call, card.qid, held)
    outputs = inference.run(program, onnx, inputs)
    started = time.monotonic()
    seen = _observe(call, program, options, card)
    simulated_s = seen.duration_us / 1e6 + performance.overhead_s(program.batch)
    wait_s = max(0.0, started + call.state.real_s(simulated_s) - time.monotonic())
    time.sleep(wait_s / 2)
    if fault == "card-gone":
        call.state.lose_card(card.qid)
        raise Refused(f"[error][QKmdDeviceFactory][getDevice:#117] Failed to open() device. QID {card.qid}\n"
                      "Inference run failed", 1)  # fmt: skip
    time.sleep(wait_s / 2)
    report.print_statistics(fault, program, seen)
    if options.get("aic-profiling-type") == "latency":
        report.write_latencies(fault, style, program, options, seen)
    inference.write(
        Path(options["write-output-dir"]), outputs, fault,
        activations=options["aic-num-of-activations"], first=options["write-output-start-iter"],
        count=options["write-output-num-samples"],
    )  # fmt: skip
    return 0


def _options(argv: list[str], style: Style) -> dict[str, Any]:
    refuse_unemulated(argv, _UNEMULATED)
    given = parse_words(argv, _OPTIONS, _ALIASES, frozenset({"input-file"}))
    if "aic-batch-json-input" in given and not style.json_inputs:
        raise Refused("Invalid option --aic-batch-json-input. Use -h, -help, or --help for list of options.")
    options = {**_DEFAULTS, **given}
    if "test-data" not in options:
        raise Refused("Error: Missing test data path", 1)
    if "time" in options and "num-iter" in options:
        raise Refused("EMULATED: one of --time and -n", 1)
    if "aic-batch-json-input" in options and options["input-file"]:
        raise Refused("EMULATED: one of --aic-batch-json-input and -i", 1)
    if options.get("aic-profiling-type", "").endswith("_stream"):
        raise Refused("EMULATED: streaming profiles are not emulated", NOT_EMULATED)
    for name in ("aic-profiling-out-dir", "write-output-dir"):
        try:
            with tempfile.TemporaryFile(dir=options[name]):
                pass
        except OSError as error:
            raise Refused(f"EMULATED: can't write to --{name} {options[name]}: {error.strerror}", 1) from None
    return options


def _card(call: Invocation, qid: int) -> Seen:
    for card in call.state.cards():
        if card.qid == qid:
            if not card.ready:
                raise Refused(f"Device:{qid} not in ready state\nFailed to initialize QAIC runner", 1)
            return card
    raise Refused(f"Invalid device:{qid}\nFailed to initialize QAIC runner", 1)


def _facts(options: dict[str, Any], program: qpc.Program) -> dict[str, Any]:
    return {
        "model": program.model, "graph": program.graph, "cores": program.cores, "batch": program.batch,
        "ols": program.ols, "mos": program.mos, "precision": program.precision,
        "instances": options["aic-num-of-activations"], "set_size": options["set-size"],
        "qid": options["aic-device-id"], "seconds": options.get("time"),
    }  # fmt: skip


def _exhausted(qid: int) -> Refused:
    return Refused(
        f"Device {qid} activate failed: Memory resource exhausted\n"
        f"[error][QIDevice][activateNetwork:#333] Dev {qid} activate failed status 300\n"
        "Failed to Activate program\nQAIC_ERROR_EXECOBJ_RUNTIME",
        1,
    )


def _refuse(fault: str, call: Invocation, qid: int, held: int) -> None:
    """Faults that end the runner, or keep it for ever, before it has run anything."""
    if fault == "memory-exhausted":
        raise _exhausted(qid)
    if fault == "device-busy":
        raise Refused("EMULATED: Device Busy ... retry\nInference run failed", 1)
    if fault == "timed-out":
        raise Refused("EMULATED: Connection timed out\nInference run failed", 1)
    if fault == "unknown-error":
        raise Refused("EMULATED: a text that nobody has seen", 1)
    if fault == "crash":
        faults.die(signal.SIGSEGV)
    if fault.endswith("hang"):
        faults.hang(stubborn=fault == "stubborn-hang", keep=[held], tell=call.tell_child)


def _observe(call: Invocation, program: qpc.Program, options: dict[str, Any], card: Seen) -> Observed:
    instances, batch = options["aic-num-of-activations"], program.batch
    point = performance.Point(
        program.graph, program.cores, instances, options["set-size"], batch, program.ols, program.mos,
        program.precision, program.tuning, card.serial, card.sku, card.throughput_factor,
    )  # fmt: skip
    with call.state.locked():
        repeat = call.state.count(f"runs/{performance.seed(point, 0):x}")
    rate = performance.observed_images_s(point, repeat)
    if options.get("aic-profiling-type") in ("stats", "trace"):
        rate *= _PROFILED
    # Whether -n counts for all activations together is open; here it is for each.
    count = options.get("num-iter", 40) * instances
    if "time" in options:
        count = max(instances, math.ceil(options["time"] * rate / batch))
    duration_us = round(count * batch / rate * 1e6)
    return Observed(rate, count, duration_us, performance.seed(point, repeat))
