"""A controller as operators start it: a process of its own, seen through its log, its port and /proc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_ports

_ROOT = Path(__file__).parents[2]


class Program:
    """`python -m k8s`."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.popen, self.log, self._port = popen, log, port

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def led_at(self) -> float | None:
        """When it last began to lead, as of `time.time`, to the millisecond."""
        times = [line["time"] for line in self.lines() if line["message"] == "leading"]
        return datetime.fromisoformat(times[-1]).timestamp() if times else None

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def count(self, name: str, **labels: str) -> float:
        """The sum of a metric over the series with these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            samples = [sample for family in families for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def cpu_s(self) -> float:
        """CPU seconds of all its threads so far."""
        tasks = Path(f"/proc/{self.popen.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def peak_mib(self) -> float:
        """The most memory that was ever resident."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(60)


def start(kubeconfig: Path, folder: Path, identity: str, **settings: str) -> Program:
    """One whose log lies in `folder`. `settings` by the variables' names without their prefix, in lower case."""
    (port,) = free_ports(1)
    given = {
        "build_image": "build",
        "measure_image": "measure",
        "listen": f"127.0.0.1:{port}",
        "identity": identity,
        **settings,
    }
    variables = {f"AICSWEEP_{name.upper()}": value for name, value in given.items()}
    log = folder / f"{identity}.log"
    with log.open("wb") as out:
        popen = subprocess.Popen(
            [sys.executable, "-m", "k8s"],
            cwd=_ROOT,
            env={**os.environ, **variables, "KUBECONFIG": str(kubeconfig)},
            stderr=out,
        )
    return Program(popen, log, port)
