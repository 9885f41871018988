"""What was written to an API server, as its own metrics count it. Pure."""

from __future__ import annotations

import re
from collections import Counter

_REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}
_COUNTED = {"jobs", "pods", "sweeps"}


class Writes(Counter[tuple[str, str]]):
    """Writes to Jobs, pods and Sweeps by (resource and subresource, verb); Events, Leases and Nodes are out."""

    def on_children(self) -> int:
        """Those to Jobs and pods."""
        return sum(count for (of, _), count in self.items() if not of.startswith("sweeps"))

    def since(self, before: Writes) -> Writes:
        return Writes({key: count - before[key] for key, count in self.items() if count > before[key]})

    def __str__(self) -> str:
        return ", ".join(f"{verb} {of} {count:,}" for (of, verb), count in self.most_common(7))


def counted(metrics: str) -> Writes:
    """As the API server's metrics count them."""
    found = Writes()
    for text, number in _REQUESTS.findall(metrics):
        labels = dict(_LABEL.findall(text))
        if labels["verb"] in _WRITES and labels["resource"] in _COUNTED:
            of = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            found[of, labels["verb"]] += int(float(number))
    return found
