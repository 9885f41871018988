"""SDK lines that are emulated, and how they differ. Facts are marked [S]een, [I]nferred, open [?] as in the
reference on the vendor's tools; an open one is a choice, so that code meets either way in some style."""

from __future__ import annotations

from dataclasses import dataclass

NOTICE = "EMULATED by aicsweep's tests, not the vendor's product"


@dataclass(frozen=True)
class Style:
    """One SDK line.

    `compiler`, `hw_version`: qaic-exec takes 2.0, qaic-compile ai100 [S]; that each refuses the other's is
    a choice [?]. `needs_compile_only`: qaic-exec would run the program after compiling it [S], here refused.
    `json_inputs`: --aic-batch-json-input is used from 1.19 on [S]; that 1.10 refuses it is a choice [?].
    `latency_from`: number of the first latency file: 0 in 2023's logs, 1 with 1.19 [S].
    `counters_last`: queueDepth and numInfInQueue are the last columns of a latency file, else they follow
    Sample [?]. `loading_line`: the oldest logs begin with it [S]. `sku_lines`: qaic-util shows SKU,
    temperature and power; older builds lack them [S]. `memory_unit`: MB and KB are both seen [S].
    """

    version: str
    compiler: str
    hw_version: str
    needs_compile_only: bool
    json_inputs: bool
    latency_from: int
    counters_last: bool
    loading_line: bool
    sku_lines: bool
    memory_unit: str
    devices_line: str

    @property
    def build(self) -> str:
        """Last part of the version; invented."""
        return "193" if self.version == "1.10" else "12"


STYLES = {
    style.version: style
    for style in (
        Style("1.10", "qaic-exec", "2.0", True, False, 0, True, True, False, "MB", "Number of devices"),
        Style("1.19", "qaic-exec", "2.0", True, True, 1, True, False, True, "MB", "Number of devices"),
        Style(
            "1.21", "qaic-compile", "ai100", False, True, 1, False, False, True, "KB", "Number of devices queried"
        ),
    )
}  # fmt: skip
