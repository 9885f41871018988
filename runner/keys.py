"""Identities: what makes two things the same thing. Nothing here may change without a new `SCHEME`.

A key hashes all of what its content depends on and nothing else, written as canonical
JSON (sorted keys, no blanks, UTF-8). Leave an input out and a stale artefact is used
silently; put a foreign one in and work is done twice.

    export request  what is asked of an exporter: model source, weights, image size, opset
    export          the request and the exporter that answered it (package versions)
    binary          digest of the graph, every compiler flag, compiler, hardware, CPU features
    cell            one point, every parameter that decides what is measured
    slot            a cell on a target
    plan            the bytes of the plan object
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

SCHEME = 1
ANY_TARGET = "any"

# 128 bits: with a million ids the chance of one collision is 1.5e-27, and an id still fits a table's line.
ID_HEX_DIGITS = 32
# Many ids at once: raw bytes, a row an id.
Ids = npt.NDArray[np.uint8]


def canonical(content: object) -> bytes:
    """Canonical JSON bytes of plain values: the only form that is ever hashed."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def digest_bytes(data: bytes) -> str:
    """SHA-256 of an object's bytes, hex: the digest in manifests and plan names."""
    return hashlib.sha256(data).hexdigest()


def identity(kind: str, content: Mapping[str, Any]) -> str:
    """Hash of canonical `content`; `kind` and the scheme keep the spaces of different nouns apart."""
    hashed = hashlib.sha256(canonical([SCHEME, kind, content]))
    return hashed.hexdigest()[:ID_HEX_DIGITS]


def identities(kind: str, fields: Mapping[str, tuple[Sequence[Any], npt.NDArray[np.int32]]]) -> Ids:
    """`identity` of many contents at once. A field is its distinct values and, for each content, the
    number of its value; None leaves the field out. At least one field must be in every content.

    Each distinct value is written as JSON once; a content is joined from such pieces and hashed.
    """
    open_, close = canonical([SCHEME, kind, {}]).split(b"}")
    pieces: list[Iterable[bytes]] = []
    common = open_
    for name in sorted(fields):
        values, numbers = fields[name]
        texts = np.empty(len(values), dtype=object)
        used = np.flatnonzero(np.bincount(numbers, minlength=len(values)))
        for number in used.tolist():
            value = values[number]
            texts[number] = b"" if value is None else canonical({name: value})[1:-1] + b","
        if len(used) == 1:
            common += texts[used[0]]
        else:
            pieces += [repeat(common), texts[numbers].tolist()]
            common = b""
    count = len(next(iter(fields.values()))[1])
    pieces.append(repeat(common, count))
    end = b"}" + close
    sha256, join = hashlib.sha256, b"".join
    return _ids(sha256(join(content)[:-1] + end) for content in zip(*pieces, strict=False))


def slot_ids(cells: Ids, target: str = ANY_TARGET) -> Ids:
    """`slot_id` of many cells on one target."""
    mark = "\0"
    open_, close = canonical([SCHEME, "slot", {"cell": mark, "target": target}]).split(canonical(mark)[1:-1])
    sha256, hexlify = hashlib.sha256, binascii.hexlify
    return _ids(sha256(open_ + hexlify(cell) + close) for cell in cells)


def _ids(hashes: Iterable[Any]) -> Ids:
    size = ID_HEX_DIGITS // 2
    data = bytearray()
    for hashed in hashes:
        data += hashed.digest()[:size]
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, size)


@dataclass(frozen=True, order=True)
class ExportRequest:
    """What is asked of an exporter, independent of the machine that answers.

    `source` is canonical: `torchvision:NAME`, `hf:OWNER/NAME@REVISION`, or `onnx:SHA256` of a
    file's content. `weights` is `pretrained`, `random`, or `file` (an ONNX file's own).
    `opset` is 0 for a file (it keeps its own). `location` tells where an ONNX file lies and
    is no part of the identity.
    """

    source: str
    weights: str
    image_size: int
    opset: int
    location: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        return identity("export-request", self.content)

    @property
    def content(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "weights": self.weights,
            "image_size": self.image_size,
            "opset": self.opset,
        }


def public_version(version: str) -> str:
    """`2.15.0+cpu` -> `2.15.0`: the local part names a build, which does not change an exported graph."""
    return version.split("+", 1)[0]


def export_key(request: ExportRequest, versions: Mapping[str, str]) -> str:
    """Key of an exported graph. `versions` are those of every package (and our own exporter) that shapes it."""
    exporter = {name: public_version(version) for name, version in versions.items()}
    return identity("export", {"request": request.content, "exporter": exporter})


def binary_key(
    *,
    graph_digest: str,
    flags: Sequence[str],
    compiler: str,
    hardware: str,
    cpu_features: Sequence[str] = (),
) -> str:
    """Key of a compiled binary. `flags` keep their order (a later flag may override an earlier one);
    `cpu_features` only for binaries compiled on the target."""
    return identity(
        "binary",
        {
            "graph": graph_digest,
            "flags": list(flags),
            "compiler": compiler,
            "hardware": hardware,
            "cpu_features": sorted(cpu_features),
        },
    )


def cell_id(content: Mapping[str, Any]) -> str:
    """Identity of a cell: the parameters that decide what is measured, whatever axis or machine they came from."""
    return identity("cell", content)


def slot_id(cell: str, target: str = ANY_TARGET) -> str:
    """Identity of a slot: a cell on a target (`any`, a node's name, or a card's serial)."""
    return identity("slot", {"cell": cell, "target": target})


def device_target(node: str, number: int) -> str:
    """Target of the `number`-th device of a cluster's node."""
    return f"{node}/{number}"


def node_of(target: str) -> str:
    """The node of a cluster's target; a node's name has no slash."""
    return target.partition("/")[0]
