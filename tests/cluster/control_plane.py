"""What a test cluster's processes are told: flags and files, a pure function of folder, ports and programs.

Several clusters run at once: nothing lies outside the folder, no port is fixed, and the two servers
listen on the loopback address only. No root is needed.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_ports

STAGES = Path(__file__).parent / "stages.yaml"
# Nodes with this annotation are simulated: kwok renews their leases and plays stages.yaml on their pods.
SIMULATED = ("kwok.x-k8s.io/node", "fake")

# One user a process, so that an audit log tells them apart; the names carry Kubernetes' own roles.
_GROUPS = {
    "admin": "system:masters",
    "kwok": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}


@dataclass(frozen=True)
class Process:
    name: str
    command: Sequence[str]


@dataclass(frozen=True)
class Layout:
    """Where a cluster's files lie and where it listens."""

    folder: Path  # all but logs and the administrator's kubeconfig; thrown away when a start fails
    kubeconfig: Path
    etcd_port: int
    peer_port: int
    api_port: int

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def certificate(self) -> Path:
        """Made by the API server when it starts; its own authority is in the same file."""
        return self.folder / "certificates" / "apiserver.crt"

    def config_of(self, user: str) -> Path:
        return (
            self.kubeconfig
            if user == "admin"
            else self.folder / f"{user.removeprefix('system:').replace(':', '-')}.kubeconfig"
        )


def lay_out(folder: Path) -> Layout:
    return Layout(folder / "state", folder / "kubeconfig", *free_ports(3))


def write_files(layout: Layout, kubelets: Sequence[str] = ()) -> dict[str, str]:
    """Keys, tokens and configuration, all but what needs the API server's certificate; `kubelets` are names of
    real nodes. Returns user -> token."""
    layout.folder.mkdir(mode=0o700)
    groups = _GROUPS | {f"system:node:{name}": "system:nodes" for name in kubelets}
    tokens = {user: secrets.token_hex(16) for user in groups}
    lines = [f'{tokens[user]},{user},{user},"{group}"' for user, group in groups.items()]
    (layout.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
    (layout.folder / "service-accounts.key").write_text(_signing_key())
    scheduler = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {
            "kubeconfig": str(layout.config_of("system:kube-scheduler")),
            "qps": 200,
            "burst": 400,
        },
    }
    (layout.folder / "scheduler.json").write_text(json.dumps(scheduler))
    return tokens


def write_kubeconfigs(layout: Layout, tokens: Mapping[str, str]) -> None:
    """One a user, once the API server has made its certificate."""
    authority = base64.b64encode(layout.certificate.read_bytes()).decode()
    for user, token in tokens.items():
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": layout.server, "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": user, "user": {"token": token}}],
        }
        file = layout.config_of(user)
        file.touch(mode=0o600)
        file.write_text(json.dumps(config, indent=1))


def servers(layout: Layout, programs: Mapping[str, Path]) -> list[Process]:
    """etcd and the API server."""
    folder = layout.folder
    client, peer = (f"http://127.0.0.1:{port}" for port in (layout.etcd_port, layout.peer_port))
    key = folder / "service-accounts.key"
    return [
        Process(
            "etcd",
            [
                str(programs["etcd"]),
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                # The data need not outlive the machine.
                "--unsafe-no-fsync",
            ],
        ),
        Process(
            "kube-apiserver",
            [
                str(programs["kube-apiserver"]),
                f"--etcd-servers={client}",
                "--bind-address=127.0.0.1",
                f"--secure-port={layout.api_port}",
                # A loopback address may not be advertised as the endpoint of a Service: advertise none.
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                f"--cert-dir={layout.certificate.parent}",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--authorization-mode=Node,RBAC",
                # Names of nodes are in no DNS.
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-cluster-ip-range=10.96.0.0/16",
            ],
        ),
    ]


def controllers(layout: Layout, programs: Mapping[str, Path]) -> list[Process]:
    """All that works through the API: the Job controller and its siblings, the scheduler, the simulated nodes."""
    return [
        Process(
            "kube-controller-manager",
            [
                str(programs["kube-controller-manager"]),
                f"--kubeconfig={layout.config_of('system:kube-controller-manager')}",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={layout.folder / 'service-accounts.key'}",
                f"--root-ca-file={layout.certificate}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
        ),
        Process(
            "kube-scheduler",
            [
                str(programs["kube-scheduler"]),
                f"--config={layout.folder / 'scheduler.json'}",
                "--secure-port=0",
            ],
        ),
        simulator(layout.config_of("kwok"), programs),
    ]


def simulator(kubeconfig: Path, programs: Mapping[str, Path]) -> Process:
    """kwok, on the nodes that carry its annotation and on no others."""
    return Process(
        "kwok",
        [
            str(programs["kwok"]),
            f"--kubeconfig={kubeconfig}",
            f"--config={STAGES}",
            f"--manage-nodes-with-annotation-selector={'='.join(SIMULATED)}",
            "--node-lease-duration-seconds=40",
            # Of the range for documentation: nothing is there.
            "--node-ip=192.0.2.1",
        ],
    )


def _signing_key() -> str:
    """A P-256 private key as PEM (RFC 5915): the curve's name and a number below its order; no library needed."""
    number = b"\x00" + secrets.token_bytes(31)
    der = bytes.fromhex("30310201010420") + number + bytes.fromhex("a00a06082a8648ce3d030107")
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n"
