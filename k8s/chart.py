"""Templates of the chart that are made from this code: its CustomResourceDefinition, rights and names. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from k8s import names
from k8s.pod_template import SECRET_KEYS, USER
from k8s.resources import CALLS, EVENTS, JOBS, LEASES, NODES, PODS, SWEEPS, Call, Resource, rules

_NOTE = "{{/* Made by `make generate`; do not edit. */}}\n"
# Why the controller needs what it has of each kind.
_WHY = {
    SWEEPS: "What is wanted; how far it is.",
    JOBS: "The stages of a Sweep.",
    PODS: "What pods said when they ended, and why they wait.",
    EVENTS: "What happened to a Sweep, for its author.",
    NODES: "Which nodes have devices, for everyNode and everyDevice.",
    LEASES: "Which of several controllers acts.",
}


def crd_template(definition: str) -> str:
    """`definition` as a template. Not in the chart's folder crds/, which helm never upgrades."""
    head, name, rest = definition.partition(f"  name: {names.PLURAL}.{names.GROUP}\n")
    if not name or "{{" in definition:
        raise ValueError("the definition has another name, or holds what a template would read as its own")
    return (
        _NOTE + "{{- if .Values.crds.install }}\n" + head + name + "  labels:\n"
        '    {{- include "aicsweep.labels" . | nindent 4 }}\n'
        "  {{- if .Values.crds.keep }}\n"
        "  annotations:\n"
        "    helm.sh/resource-policy: keep\n"
        "  {{- end }}\n" + rest + "{{- end }}\n"
    )


def helpers() -> str:
    """Named templates: the rules, by where they must hold, and what else the chart has to know of the code."""
    cluster = [call for call in CALLS if not call.resource.namespaced]
    lease = [call for call in CALLS if call.resource is LEASES]
    sweeps = [call for call in CALLS if call not in cluster and call not in lease]
    return _NOTE + "".join(
        _define(name, text)
        for name, text in {
            "rules.sweeps": _rules(sweeps),
            "rules.nodes": _rules(cluster),
            # A name can't be asked for of what is not there yet.
            "rules.lease": _rules([call for call in lease if call.verb == "create"])
            + _rules(
                [call for call in lease if call.verb != "create"],
                '  resourceNames: [{{ include "aicsweep.controllerName" . | quote }}]\n',
            ),
            "podLabels": f"{names.MANAGED_BY}: {names.MANAGER}\n",
            "user": f"{USER}\n",
            "secretKeys": json.dumps(list(SECRET_KEYS)) + "\n",
        }.items()
    )


def _define(name: str, text: str) -> str:
    return f'{{{{- define "aicsweep.{name}" -}}}}\n{text}{{{{- end }}}}\n'


def _rules(calls: Sequence[Call], more: str = "") -> str:
    """As YAML, each kind of object with the reason."""
    kinds: list[Resource] = list(dict.fromkeys(call.resource for call in calls))
    lines = []
    for kind in kinds:
        lines.append(f"# {_WHY[kind]}\n")
        for rule in rules([call for call in calls if call.resource is kind]):
            fields = [f"{key}: {json.dumps(value)}\n" for key, value in rule.items()]
            lines.append("- " + "  ".join(fields) + more)
    return "".join(lines)
