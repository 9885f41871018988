"""What a Sweep, or an installation for its Sweeps, may say of pods: `spec.pods`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from runner.axes import Strict

Name = Annotated[str, Field(min_length=1, max_length=253)]


class Toleration(Strict):
    """A Kubernetes toleration."""

    key: str = Field(default="", max_length=317, description="Of the taint; empty with Exists: every taint.")
    operator: Literal["Exists", "Equal"] = Field(
        default="Equal", description="Exists tolerates whatever value the taint has."
    )
    value: str = Field(default="", max_length=63, description="Of the taint, with Equal.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="", description="Of the taint; empty: every effect."
    )


def _complete_toleration(toleration: Toleration) -> Toleration:
    """What the API server says of a pod's tolerations, said of the Sweep, where its author reads it."""
    if toleration.operator == "Exists" and toleration.value:
        raise PydanticCustomError("toleration", "operator Exists takes no value")
    if toleration.operator == "Equal" and not toleration.key:
        raise PydanticCustomError("toleration", "operator Equal needs a key")
    return toleration


_QUANTITY = r"^[1-9][0-9]*(Mi|Gi)$"


class PodResources(Strict):
    """CPU and memory of one kind of pod; requests equal limits."""

    cpu: int = Field(default=2, ge=1, le=1024, description="Whole CPUs.")
    memory: str = Field(default="8Gi", pattern=_QUANTITY, max_length=16, description="In Mi or Gi.")


Labels = dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]]


class Pods(Strict):
    """All that a Sweep may say of its pods: a closed list.

    In a cluster, what is left out is first taken from the installation (`pods` in the chart's values), field
    by field; a map or a list that is given replaces the installation's.
    """

    build: PodResources = Field(default=PodResources(), description="Pods that export and compile.")
    measure: PodResources = Field(default=PodResources(), description="Pods that hold a device.")
    build_image: str = Field(
        default="", max_length=512, description="Image of build pods. Empty: the controller's default."
    )
    measure_image: str = Field(
        default="", max_length=512, description="Image of measure pods. Empty: the controller's default."
    )
    image_pull_secrets: tuple[Name, ...] = Field(
        default=(), max_length=8, description="Secrets with registry credentials, in the Sweep's namespace."
    )
    build_node_selector: Labels = Field(
        default={}, max_length=16, description="Labels of nodes for build pods."
    )
    measure_node_selector: Labels = Field(
        default={}, max_length=16, description="Labels of nodes for measure pods."
    )
    tolerations: tuple[Annotated[Toleration, AfterValidator(_complete_toleration)], ...] = Field(
        default=(), max_length=16, description="Taints that all pods of the Sweep tolerate."
    )
    device_resource: str = Field(
        default="qualcomm.com/qaic", max_length=253, description="Extended resource of one device."
    )
    device_group: int = Field(
        default=995, ge=0, le=2_147_483_647, description="GID that may open the device."
    )
    shm_size: str = Field(
        default="2Gi", pattern=_QUANTITY, max_length=16, description="Size of /dev/shm in measure pods."
    )
    cache_claim: str = Field(
        default="", max_length=253, description="PersistentVolumeClaim with model weights."
    )
    hf_token_secret_name: str = Field(default="", max_length=253, description="Secret with the key HF_TOKEN.")
    queue_name: str = Field(default="", max_length=63, description="Kueue LocalQueue of all Jobs.")
    priority_class_name: str = Field(default="", max_length=253, description="PriorityClass of all pods.")
    build_on_device_nodes: bool = Field(default=False, description="Let export and compile run beside cards.")
