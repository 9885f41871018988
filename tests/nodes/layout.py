"""What is where: a node's addresses and names, and what its programs are told. Pure.

pod 10.244.N.x -- cni0 10.244.N.1 | eth0 10.98.0.(10+N) -- aicsweep0 10.98.0.1 (the machine)
`------------- node N's network namespace -------------'   10.96.0.1:443 is the API server's Service address
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.nodes.needs import CNI_PROGRAMS

BRIDGE = "aicsweep0"
GATEWAY = "10.98.0.1"
SERVICE = "10.96.0.1"
RESOURCE = "qualcomm.com/qaic"
DEVICE_GROUP = 995
PAUSE = "localhost/aicsweep-pause"


@dataclass(frozen=True)
class Node:
    """A real node. `number` is from 1; `devices` are its cards."""

    name: str
    number: int
    devices: int
    pause: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"10.98.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def cgroup(self) -> str:
        return f"aicsweep-node-{self.number}"

    @property
    def link(self) -> str:
        """The machine's end of its cable."""
        return f"aicsweep0-{self.number}"


def cni_config(node: Node) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": node.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "1.0.0", "name": "test", "plugins": [bridge]}


def containerd_config(cni: Path, pause: str) -> str:
    return f"""version = 3
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{CNI_PROGRAMS}"]
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
"""


def kubelet_config(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        # Test-only: the API server has no client certificate for kubelets here.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        # Without it a kubelet that may not change the kernel's settings ends.
        "featureGates": {"KubeletInUserNamespace": True},
        "enforceNodeAllocatable": [],
        # The disk is the machine's; how full it is says nothing of the node.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        "clusterDNS": [GATEWAY],
        "clusterDomain": "cluster.local",
        "healthzPort": 0,
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "5s",
    }
