"""Tables on narrow terminals."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from runner import terminal


@pytest.mark.parametrize("width", range(40, 121))
def test_no_number_is_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room is wrapped: of `7519 ±12…` nobody knows what was measured."""
    out = io.StringIO()
    monkeypatch.setattr(terminal, "Console", lambda **_: Console(width=width, file=out))
    row = {"model": "resnet50", "images/s": "7519 ±123.5", "p95 ms": "38.5 ±0.783", "status": "ok, best"}
    terminal.print_frame(pd.DataFrame([{**row, "objective": "throughput"}]))
    words = out.getvalue().split()
    assert {"7519", "±123.5", "38.5", "±0.783"} <= set(words)
    assert "…" not in out.getvalue()
    assert (len(out.getvalue().splitlines()) == 3) == (width >= 56)
