"""Names of Services for pods of real nodes: `python -m tests.nodes.dns KUBECONFIG ADDRESS`.

In place of a cluster's DNS and its kube-proxy: a name is answered with the addresses of the pods behind the
Service, as if it were a headless one.
"""

from __future__ import annotations

import re
import socketserver
import sys

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from kubernetes.client import DiscoveryV1Api
from kubernetes.config import new_client_from_config

_SERVICE = re.compile(r"^([a-z0-9-]+)\.([a-z0-9-]+)\.svc\.cluster\.local\.$")
_KEPT_S = 1


def answer(api: DiscoveryV1Api, request: bytes) -> bytes:
    """To one question."""
    asked = dns.message.from_wire(request)
    told = dns.message.make_response(asked, recursion_available=True)
    told.flags |= dns.flags.AA
    (question,) = asked.question
    name = _SERVICE.match(question.name.to_text().lower())
    addresses = _ready(api, name[1], name[2]) if name else []
    if not addresses:
        told.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype == dns.rdatatype.A:
        told.answer.append(dns.rrset.from_text(question.name, _KEPT_S, "IN", "A", *addresses))
    return told.to_wire()


def _ready(api: DiscoveryV1Api, service: str, namespace: str) -> list[str]:
    of = f"kubernetes.io/service-name={service}"
    slices = api.list_namespaced_endpoint_slice(namespace, label_selector=of).items
    ends = [end for each in slices for end in each.endpoints or () if end.conditions and end.conditions.ready]
    return sorted(address for end in ends for address in end.addresses)


def main(kubeconfig: str, address: str) -> None:
    api = DiscoveryV1Api(new_client_from_config(kubeconfig))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request, reply = self.request
            reply.sendto(answer(api, request), self.client_address)

    with socketserver.ThreadingUDPServer((address, 53), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
