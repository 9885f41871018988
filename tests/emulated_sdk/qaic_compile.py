"""The emulated compiler, qaic-exec or qaic-compile: checks its arguments, binds the graph's dimensions, and
writes a `qpc.Program` that holds the graph."""

from __future__ import annotations

import hashlib
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import faults, performance, qpc
from .entry import Invocation
from .options import BAD_USAGE, Convert, Refused, choice, integer, integers, invalid, parse_equals, ratio
from .styles import NOTICE, Style

# The largest SoC has 16 NSPs; which one it will be the compiler does not know.
MAX_CORES = 16
_REPEATED = frozenset({"onnx-define-symbol"})
# Converters of values; None for a switch.
_FLAGS: dict[str, Convert | None] = {
    "m": str, "model": str, "onnx-define-symbol": str, "aic-hw": None, "aic-hw-version": str,
    "aic-num-cores": integer(1, MAX_CORES), "ols": integer(1), "mos": integers, "convert-to-fp16": None,
    "compile-only": None, "aic-binary-dir": str, "batchsize": integer(1), "stats-batchsize": integer(1),
    "multicast-weights": None, "sdp-cluster-sizes": integers, "use-producer-dma": None,
    "aic-enable-depth-first": None, "aic-depth-first-mem": integer(8, 32),
    "allocator-dealloc-delay": integer(0, 10), "size-split-granularity": integer(512, 2048),
    "vtcm-working-set-limit-ratio": ratio, "aic-perf-metrics": None, "aic-perf-warnings": None,
    "compile-threads": integer(1), "convert-to-quantize": None, "quantization-precision": choice("Int8"),
    "use-random-input-data": choice("gaussian"), "quantization-schema-activations": str,
    "quantization-schema-constants": str, "node-precision-info": str, "load-profile": str,
    "custom-IO-list-file": str, "v": None,
}  # fmt: skip
_ONLY_EXEC: dict[str, Convert | None] = {
    name: choice("stats", "trace", "latency") for name in ("aic-profiling-type", "aic-profiling-format")
}
_ONLY_COMPILE: dict[str, Convert | None] = {"stats-level": integer(40, 100), "ddr-stats": None}
# The other switches: each set of them makes the emulated program a little faster or slower.
_TUNING = {"multicast-weights", "sdp-cluster-sizes", "use-producer-dma", "aic-enable-depth-first",
           "aic-depth-first-mem", "allocator-dealloc-delay", "size-split-granularity",
           "vtcm-working-set-limit-ratio"}  # fmt: skip


def run(call: Invocation) -> int:
    style = call.state.style
    options = _options(call.argv, style)
    model = Path(options["model"])
    program, onnx = _program(model, options)
    facts = {
        "model": program.model, "graph": program.graph, "cores": program.cores, "batch": program.batch,
        "ols": program.ols, "mos": program.mos, "precision": program.precision,
    }  # fmt: skip
    fault = call.state.take_fault("compile", facts, call.argv)
    if style.loading_line:
        print("loading compiler from: /opt/qti-aic/dev/lib/x86_64/libQAicCompiler.so")
    print(f"Reading ONNX Model from {model}")
    print("Compile started ............... ", flush=True)
    if fault:
        _refuse(fault, call)
    time.sleep(call.state.real_s(performance.COMPILE_S))
    print(
        f"Compiling model with {'INT8' if program.precision == 'int8' else program.precision.upper()} precision."
    )
    print("EMULATED: Slice bounds clamped", file=sys.stderr)
    if not style.loading_line:
        print("WARNING: /EMULATED/Conv_503/ contains value or values that will underflow "
              "after conversion to 16-bit floating point values.")  # fmt: skip
    if "aic-perf-metrics" in options:
        print(f"final constants size: {len(onnx)} B\nVTCM0Size:   8323072 B")
    folder = Path(options["aic-binary-dir"])
    folder.mkdir(exist_ok=True)
    if fault == "empty-binary":
        (folder / qpc.NAME).touch()
    elif fault != "no-binary":
        qpc.write(folder / qpc.NAME, program, onnx)
        (folder / "constants.bin").write_text(f"{NOTICE}\n")
    print(f"Generated binary is present at {folder}")
    return 0


def _options(argv: list[str], style: Style) -> dict[str, Any]:
    """Arguments that can be judged without the graph."""
    known = _FLAGS | (_ONLY_COMPILE if style.compiler == "qaic-compile" else _ONLY_EXEC)
    options = parse_equals(argv, known, _REPEATED)
    options.setdefault("model", options.get("m"))
    for name in ("model", "aic-hw", "aic-hw-version", "aic-binary-dir"):
        if not options.get(name):
            raise Refused(f"EMULATED: option -{name} is missing")
    if (version := options["aic-hw-version"]) != style.hw_version:
        raise Refused(f"EMULATED: {style.compiler} takes -aic-hw-version={style.hw_version}, not {version}")
    if style.needs_compile_only and "compile-only" not in options:
        raise Refused("EMULATED: without -compile-only this would run on a device as well")
    cores, clusters = options.setdefault("aic-num-cores", 1), options.get("sdp-cluster-sizes", [])
    if clusters and sum(clusters) != cores:
        raise Refused(f"EMULATED: -sdp-cluster-sizes={clusters} do not add up to {cores} cores")
    mos = options.setdefault("mos", [1])
    if max(mos) > cores or len(mos) > max(1, len(clusters)):
        raise Refused(f"EMULATED: -mos={mos} does not fit {cores} cores in {max(1, len(clusters))} clusters")
    if {"convert-to-fp16", "convert-to-quantize"} <= set(options):
        raise Refused("EMULATED: one of -convert-to-fp16 and -convert-to-quantize")
    folder = Path(options["aic-binary-dir"])
    if not folder.parent.is_dir():
        raise Refused(f"EMULATED: {folder.parent} is no directory")
    if qpc.constants(folder):
        raise Refused(f"EMULATED: {folder} holds a constants binary already")
    return options


def _program(model: Path, options: dict[str, Any]) -> tuple[qpc.Program, bytes]:
    """Read the graph and bind its dimensions."""
    if not model.is_file():
        raise Refused(f"EMULATED: no model file {model}")
    onnx = model.read_bytes()
    inputs, outputs = _interface(model)
    shapes = _bind(inputs, options)
    batches = {shape[0] for shape in shapes.values() if shape}
    if "batchsize" in options and batches != {options["batchsize"]}:
        raise Refused(f"EMULATED: -batchsize={options['batchsize']} but the graph has {batches}")
    quantized = "convert-to-quantize" in options
    return qpc.Program(
        graph=hashlib.sha256(onnx).hexdigest(), model=str(model.absolute()), inputs=shapes, outputs=outputs,
        cores=options["aic-num-cores"], batch=max(batches, default=1),
        stats_batch=options.get("stats-batchsize", 1), ols=options.get("ols", 1), mos=options["mos"][0],
        precision="int8" if quantized else "fp16" if "convert-to-fp16" in options else "fp32",
        tuning=" ".join(f"{name}={options[name]}" for name in sorted(_TUNING & set(options))),
        statistics=bool({"aic-profiling-type", "aic-profiling-format", "stats-level"} & set(options)),
    ), onnx  # fmt: skip


def _interface(model: Path) -> tuple[dict[str, list[int | str]], list[str]]:
    """Inputs with their dimensions (a name where unbound), and the outputs' names."""
    import onnx

    try:
        graph = onnx.load(str(model), load_external_data=False).graph
        if not graph.node or not graph.output:
            raise ValueError("no nodes")
    except Exception as error:
        raise _no_nodes(f"EMULATED: this is no ONNX graph: {type(error).__name__}") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise _no_nodes("EMULATED: weights in a file of their own")
    weights = {tensor.name for tensor in graph.initializer}
    inputs: dict[str, list[int | str]] = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in graph.input
        if value.name not in weights
    }
    return inputs, [value.name for value in graph.output]


def _bind(inputs: dict[str, list[int | str]], options: dict[str, Any]) -> dict[str, list[int]]:
    symbols = {}
    for text in options["onnx-define-symbol"]:
        name, _, value = text.partition(",")
        if not name or not value.isdigit() or int(value) < 1:
            raise Refused(f"EMULATED: -onnx-define-symbol={text} is not NAME,NUMBER")
        symbols[name] = int(value)
    bound: dict[str, list[int]] = {}
    for name, shape in inputs.items():
        for dimension in shape:
            if isinstance(dimension, str) and dimension not in symbols:
                raise Refused(
                    f"QAIC_ERROR:\nError message:  EMULATED: dimension {dimension} of {name} is not bound"
                )
        bound[name] = [symbols[d] if isinstance(d, str) else d for d in shape]
    return bound


def _no_nodes(message: str) -> Refused:
    return Refused(
        f"QAIC_ERROR:\nError message:  {message}\nQAICException:Unable to AddNodesToGraphFromModel"
    )


def _refuse(fault: str, call: Invocation) -> None:
    """Faults that end the compiler before it writes."""
    if fault == "unsupported-operator":
        raise _no_nodes("[Operator-'/model/layers.0/self_attn/ScatterND', opset_version-13, ir_version-7] : "
                        "Indices and updates must have same lengths!")  # fmt: skip
    if fault == "invalid-option":
        raise invalid("-retained-state")
    if fault == "schema-error":
        raise Refused("[json.exception.type_error.302] type must be string, but is object", BAD_USAGE)
    if fault == "killed":
        faults.die(signal.SIGKILL)
    if fault.endswith("hang"):
        faults.hang(stubborn=fault == "stubborn-hang", tell=call.tell_child)
