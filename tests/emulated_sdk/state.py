"""What the tools of one tree share, in files below it: settings, counters, and NSPs in use.

`state.json` is written by the test and replaced whole; `counters.json` by the tools, under a lock. A runner
holds a lock on a file of its own below `running/`: its NSPs are free again when the last process that holds
it has ended, however it ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import cards
from .cards import Card, Seen
from .faults import Fault
from .styles import NOTICE, STYLES, Style

SPEED = "AICSWEEP_EMULATED_SPEED"


class State:
    """The shared files of the tree at `root`."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "EMULATED"
        self.journal = self.folder / "calls.jsonl"

    def write(self, **changes: Any) -> None:
        """Replace parts of `state.json`."""
        with self.locked():
            path = self.folder / "state.json"
            content = json.loads(path.read_text()) if path.exists() else {"notice": NOTICE}
            _replace(path, content | changes)

    def set_cards(self, listed: Sequence[Card]) -> None:
        contents = [card.content(position) for position, card in enumerate(listed)]
        if len({content["qid"] for content in contents}) < len(contents):
            raise ValueError("two cards have one QID")
        self.write(cards={"token": uuid.uuid4().hex, "list": contents})

    def set_faults(self, listed: Sequence[Fault]) -> None:
        self.write(faults={"token": uuid.uuid4().hex, "list": [fault.content() for fault in listed]})

    def real_s(self, simulated_s: float) -> float:
        """Real seconds for simulated ones: the environment's speed, else the one the test installed."""
        return simulated_s / float(os.environ.get(SPEED) or self._read()["speed"])

    @property
    def style(self) -> Style:
        return STYLES[self._read()["style"]]

    def take_fault(self, tool: str, facts: Mapping[str, Any], argv: Sequence[str]) -> str:
        """The kind of fault this call has to suffer, counted as suffered; empty if none."""
        with self.locked():
            listed = self._read()["faults"]
            for index, content in enumerate(listed["list"]):
                fault = Fault(**content)
                if not fault.matches(tool, facts, argv):
                    continue
                met = self.count(f"fault/{listed['token']}/{index}")
                if met > fault.after and (fault.times is None or met <= fault.after + fault.times):
                    return fault.kind
        return ""

    def cards(self, *, query: Sequence[int] | None = None) -> list[Seen]:
        """Every card as it is now; those of `query` are counted as queried once more."""
        with self.locked():
            return self._cards(query or ())

    def _cards(self, query: Sequence[int]) -> list[Seen]:
        listed = self._read()["cards"]
        in_use = self._in_use()
        seen = []
        for card in listed["list"]:
            qid, key = card["qid"], f"{listed['token']}/{card['qid']}"
            queries = self.count(f"queries/{key}", 1 if qid in query else 0)
            busy = cards.at(card["busy_nsps"], queries)
            running = [nsps for where, nsps in in_use if where == qid]
            gone = self.count(f"gone/{key}", 0)
            seen.append(
                Seen(
                    qid=qid, serial=card["serial"], sku=card["sku"],
                    status="Error" if gone else cards.at(card["status"], queries),
                    nsp_total=card["nsp_total"], nsp_free=max(0, card["nsp_total"] - busy - sum(running)),
                    networks=len(running) + (busy > 0), dram_mb=card["dram_mb"],
                    fw_version=card["fw_version"], temperature_c=cards.at(card["temperature_c"], queries),
                    power_w=card["power_w"], throughput_factor=card["throughput_factor"],
                )
            )  # fmt: skip
        return seen

    def lose_card(self, qid: int) -> None:
        """The card's status is Error from now on (until the test sets cards anew)."""
        with self.locked():
            self.count(f"gone/{self._read()['cards']['token']}/{qid}")

    def reserve(self, qid: int, nsps: int) -> int | None:
        """Take NSPs of a card; returns the file descriptor that holds them, None if they do not suffice."""
        with self.locked():
            if next(card.nsp_free for card in self._cards(()) if card.qid == qid) < nsps:
                return None
            path = self.folder / "running" / f"{os.getpid()}-{uuid.uuid4().hex}.json"
            path.write_text(json.dumps({"notice": NOTICE, "qid": qid, "nsps": nsps}))
            held = os.open(path, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX)
            return held

    def _in_use(self) -> list[tuple[int, int]]:
        """(qid, NSPs) of every runner that lives."""
        found = []
        for path in (self.folder / "running").iterdir():
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    content = json.load(file)
                    found.append((content["qid"], content["nsps"]))
                else:
                    path.unlink()
        return found

    def count(self, name: str, by: int = 1) -> int:
        """Add to a counter and return it. The caller holds the lock."""
        path = self.folder / "counters.json"
        counters: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"notice": NOTICE}
        counters[name] = counters.get(name, 0) + by
        if by:
            _replace(path, counters)
        return int(counters[name])

    @contextmanager
    def locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "state.json").read_text()))


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    fresh = path.with_suffix(f".{os.getpid()}.new")
    fresh.write_text(json.dumps(content, indent=1))
    fresh.replace(path)
