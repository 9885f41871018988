"""Which slots are measured in one lot, and in which order: rivals side by side, in a seeded random order. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runner import keys
from runner.grid import Positions

Seconds = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]


class Packed(NamedTuple):
    """Rows to do in the order of work, each with lot and position in it."""

    order: Positions
    lots: Int32s
    positions: Int32s


class Lots:
    """Packs rows into lots of a node each, one listing's after the other's.

    Every node packs its own rows, all in the same seeded random order of entries: what is measured beside
    each other, or on each node, is comparable.
    """

    def __init__(self, seed: str, limit_s: float, targets: Mapping[str, str]) -> None:
        self._random = np.random.default_rng(int(keys.digest_bytes(seed.encode())[:16], 16))
        nodes = {node: number for number, node in enumerate(dict.fromkeys(targets.values()))}
        self._node_of = np.array([nodes[node] for node in targets.values()])
        self._packers = [_Packer(limit_s) for _ in nodes]
        # Lots that hold the first rows of a listing, each counted from its node's first.
        self.first: set[int] = set()
        self.seconds = 0.0

    @property
    def nodes(self) -> int:
        return len(self._packers)

    @property
    def per_node(self) -> int:
        return max(packer.count for packer in self._packers)

    def pack(self, blocks: Positions, seconds: Seconds, rows: Positions) -> Packed:
        """`rows` are numbers in the listing, entry after entry, each on every target."""
        targets = len(self._node_of)
        entries, nodes = rows // targets, self._node_of[rows % targets]
        shuffled = self._random.random(int(entries.max(initial=-1)) + 1)[entries]
        self.seconds += float(seconds.sum())
        parts = []
        for number, packer in enumerate(self._packers):
            mine = np.flatnonzero(nodes == number)
            mine = mine[np.lexsort((rows[mine], shuffled[mine], blocks[mine]))]
            # The devices of a node measure side by side: an entry takes as long on all as on one.
            begins = np.diff(entries[mine], prepend=-1) != 0
            firsts = mine[begins]
            lots, positions = packer.pack(blocks[firsts], seconds[firsts])
            entry = np.cumsum(begins) - 1
            on_device = np.arange(len(mine)) - np.flatnonzero(begins)[entry]
            self.first.update(lots[:1].tolist())
            on_device += targets * positions[entry]
            parts.append(Packed(mine, lots[entry], on_device.astype(np.int32)))
        if len(parts) == 1:
            return parts[0]
        packed = Packed(*map(np.concatenate, zip(*parts, strict=True)))
        order = np.lexsort((packed.positions, nodes[packed.order], packed.lots))
        return Packed(packed.order[order], packed.lots[order], packed.positions[order])


class _Packer:
    """Lots of at most `limit_s` estimated seconds. Rivals of one block stay together: a block that fits a lot
    is never split, one that does not begins a lot of its own."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._lot, self._used_s, self._position = 0, 0.0, 0

    @property
    def count(self) -> int:
        return self._lot + 1 if self._position else 0

    def pack(self, blocks: Positions, seconds: Seconds) -> tuple[Int32s, Int32s]:
        """Lot and position of rows that are sorted by block, following those of the last call."""
        totals_s = np.bincount(blocks, weights=seconds).tolist()
        limit_s, lot, used_s, position, block = self._limit_s, self._lot, self._used_s, self._position, -1
        lots, positions = array("i"), array("i")
        for its_block, cost_s in zip(blocks.data, seconds.data, strict=True):
            needed_s = cost_s if its_block == block else totals_s[its_block]
            block = its_block
            if used_s > 0 and used_s + min(needed_s, limit_s) > limit_s + 1e-9:
                lot, used_s, position = lot + 1, 0.0, 0
            lots.append(lot)
            positions.append(position)
            used_s += cost_s
            position += 1
        self._lot, self._used_s, self._position = lot, used_s, position
        return np.array(lots, dtype=np.int32), np.array(positions, dtype=np.int32)
