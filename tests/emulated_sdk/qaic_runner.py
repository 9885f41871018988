"""The emulated runner: takes NSPs of a card, runs the graph once with ONNX Runtime for the output files,
and reports the rates and latencies of `performance`."""

from __future__ import annotations

import math
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from . import faults, inference, latency_file, performance, qpc
from .cards import Seen
from .entry import Invocation
from .options import NOT_EMULATED, Convert, Refused, choice, integer, parse_words
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
_ROW_LIMIT = 100


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
    rate, count, duration_us = _performance(call, program, options, card)
    simulated_s = duration_us / 1e6 + performance.overhead_s(program.batch)
    wait_s = max(0.0, started + call.state.real_s(simulated_s) - time.monotonic())
    time.sleep(wait_s / 2)
    if fault == "card-gone":
        call.state.lose_card(card.qid)
        raise Refused(f"[error][QKmdDeviceFactory][getDevice:#117] Failed to open() device. QID {card.qid}\n"
                      "Inference run failed", 1)  # fmt: skip
    time.sleep(wait_s / 2)
    _print_statistics(fault, program, count, duration_us)
    if options.get("aic-profiling-type") == "latency":
        _write_latencies(fault, style, program, options, 0 if fault == "zero-inferences" else count, rate)
    inference.write(
        Path(options["write-output-dir"]), program, outputs, fault,
        activations=options["aic-num-of-activations"], first=options["write-output-start-iter"],
        count=options["write-output-num-samples"],
    )  # fmt: skip
    return 0


def _options(argv: list[str], style: Style) -> dict[str, Any]:
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
        raise Refused("EMULATED: Device Busy, retry\nInference run failed", 1)
    if fault == "unknown-error":
        raise Refused("EMULATED: a text that nobody has seen", 1)
    if fault == "crash":
        faults.die(signal.SIGSEGV)
    if fault.endswith("hang"):
        faults.hang(stubborn=fault == "stubborn-hang", keep=[held], tell=call.tell_child)


def _performance(
    call: Invocation, program: qpc.Program, options: dict[str, Any], card: Seen
) -> tuple[float, int, int]:
    """Images per second, inferences of all instances together, and microseconds they took."""
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
    return rate, count, round(count * batch / rate * 1e6)


def _print_statistics(fault: str, program: qpc.Program, count: int, duration_us: int) -> None:
    if fault == "no-statistics":
        return
    rate = f"{count * 1e6 / duration_us * program.stats_batch:.3f}"
    if fault == "zero-inferences":
        count, rate = 0, "0.000"
    elif fault == "nan-statistics":
        rate = "nan"
    elif fault == "wrong-rate":
        rate = f"{float(rate) * 1.5:.3f}"
    line = (
        f"InferenceCnt {count} TotalDuration {duration_us}us BatchSize {program.stats_batch} Inf/Sec {rate}"
    )
    if fault == "garbage-statistics":
        line = "InferenceCnt \x00\xff TotalDuration us BatchSize Inf/Sec #####"
    if fault == "repeated-statistics":
        print(f" ---- Stats ----\n{line.replace(rate, '1.000')}")
    print(f" ---- Stats ----\n{line}", flush=True)
    if program.statistics:
        mean_us = duration_us / count if count else 0.0
        print(
            "Device Performance: \nMetric,          Avg,           Min,           Max,           Std            "
        )
        print(f"ExecTimeUs,      {mean_us:<15.3f},{mean_us:<15.3f},{mean_us:<15.3f},{0:<15.3f}", flush=True)


def _write_latencies(
    fault: str, style: Style, program: qpc.Program, options: dict[str, Any], count: int, rate: float
) -> None:
    import numpy as np

    instances, set_size = options["aic-num-of-activations"], options["set-size"]
    mean_us = instances * set_size * program.batch / rate * 1e6 * (3 if fault == "wrong-latency" else 1)
    skipped = options["aic-profiling-start-iter"]
    skipped += int(options["aic-profiling-start-delay"] / 1000 * rate / program.batch / instances)
    limit = min(options["aic-profiling-num-samples"], _ROW_LIMIT if fault == "row-limit" else 10**9)
    random = np.random.default_rng([int(program.graph[:8], 16), count, instances])
    last = instances - 1
    for activation in range(instances + (fault == "extra-latency")):
        if fault == "no-latency" and activation == last:
            continue
        # The first activations take what does not divide.
        done = (count + instances - 1 - activation % instances) // instances
        rows = latency_file.round_trips_us(mean_us, set_size, done, random)[skipped:][:limit]
        folder = options["aic-profiling-out-dir"]
        name = f"{folder}/aic-profiling-program-{activation + style.latency_from}-latency.txt"
        path = Path(name)
        if path.exists():
            print(f"Deleting previous file: {name}")
        print(f"Writing file:{name}")
        latency_file.write(path, style, rows, set_size=set_size, first=skipped, device=program.statistics)
        if fault == "truncated-latency" and activation == last:
            text = path.read_text()
            path.write_text(text[: len(text) * 2 // 3].rstrip("\n")[:-5])
