"""The controller's settings, read once from the environment; all problems at once, under the variables' names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Json, ValidationError
from pydantic_core import PydanticCustomError

from k8s.child import Defaults
from runner.errors import BadInput, Problem
from runner.pod_settings import Pods

PREFIX = "AICSWEEP_"
_LABEL = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
# Kubernetes puts such variables into every pod for each Service of the namespace, `aicsweep` included.
# For the same reason no variable of ours may be called AICSWEEP_..._PORT.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")

Name = Annotated[str, Field(pattern=_NAME, max_length=253)]
# Whoever may read pods would read its password.
Proxy = Annotated[str, Field(pattern=r"^(https?://[^@/\s]+/?)?$", max_length=512)]


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _without_images(pods: Pods) -> Pods:
    for name in ("build_image", "measure_image"):
        if getattr(pods, name):
            raise PydanticCustomError(
                "image", "the image is what {name} says", {"name": f"{PREFIX}{name.upper()}"}
            )
    return pods


class Settings(BaseModel):
    """One field a variable: `store` is AICSWEEP_STORE."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespaces: Annotated[
        tuple[Annotated[str, Field(pattern=_LABEL, max_length=63)], ...], BeforeValidator(_listed)
    ] = Field(default=(), max_length=100, description="Only these, with commas between them; empty: all.")
    cluster: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        max_length=63,
        description="Of several clusters that write into one store, this one's name in it.",
    )
    store: str = Field(
        default="", max_length=1024, description="Store of Sweeps that name none, s3://BUCKET/PREFIX."
    )
    store_secret: str = Field(
        default="",
        max_length=253,
        description="Secret with AWS_* keys for it, in the namespace of each Sweep.",
    )
    build_image: str = Field(
        min_length=1, max_length=512, description="Image of pods that export and compile."
    )
    measure_image: str = Field(min_length=1, max_length=512, description="Image of all other pods.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pods: Annotated[Json[Pods], AfterValidator(_without_images)] = Field(
        default=Pods(), description="JSON of what Sweeps that leave it out of `spec.pods` inherit."
    )
    http_proxy: Proxy = Field(default="", description="HTTP_PROXY of all pods of Sweeps, http://HOST:PORT.")
    https_proxy: Proxy = Field(default="", description="HTTPS_PROXY of them.")
    no_proxy: str = Field(
        default="",
        max_length=4096,
        description="NO_PROXY of them: hosts and domains with commas between them.",
    )

    workers: int = Field(default=16, ge=1, le=64, description="Sweeps looked at at the same time.")
    resync_s: float = Field(default=1800, ge=10, description="Each Sweep is looked at at least this often.")
    request_s: float = Field(default=30, ge=1, le=300, description="Time limit of one request.")
    silence_s: float = Field(
        default=90,
        ge=5,
        le=600,
        description="A watch silent for so long is begun anew; bookmarks come each 60 s.",
    )
    stop_s: float = Field(default=10, ge=0, le=300, description="Time for passes under way after SIGTERM.")

    lease_namespace: str = Field(
        default="default", pattern=_LABEL, max_length=63, description="Where the leader's Lease lies."
    )
    lease_name: Name = "aicsweep-controller"
    lease_s: float = Field(default=15, ge=3, le=300, description="A leader silent for so long has lost.")
    identity: str = Field(default="", max_length=200, description="Name in the Lease; empty: the host's.")

    listen: str = Field(
        default=":8080",
        pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]*):[0-9]{1,5}$",
        description="HOST:PORT of /healthz, /readyz and /metrics; without host on all addresses.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )
    kubeconfig: str = Field(default="", description="KUBECONFIG; empty: the cluster this runs in.")

    def defaults(self) -> Defaults:
        """What a Sweep may leave open."""
        return Defaults(
            cluster=self.cluster,
            store=self.store.rstrip("/"),
            secret_name=self.store_secret,
            build_image=self.build_image,
            measure_image=self.measure_image,
            pull_policy=self.image_pull_policy,
            pods=self.pods,
            proxies=self._proxies(),
        )

    def _proxies(self) -> dict[str, str]:
        """In both spellings: some programs read only one of them."""
        given = {"HTTP_PROXY": self.http_proxy, "HTTPS_PROXY": self.https_proxy, "NO_PROXY": self.no_proxy}
        return {spelt: value for name, value in given.items() if value for spelt in (name, name.lower())}


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that `environment` holds. Raises BadInput."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and not _SERVICE_LINK.search(name)
    }
    # Its name is not ours to choose.
    given["kubeconfig"] = environment.get("KUBECONFIG", "")
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise BadInput([_problem(dict(detail)) for detail in error.errors()], source="environment") from None


def _problem(detail: dict[str, object]) -> Problem:
    location = detail["loc"]
    field, *rest = location if isinstance(location, tuple) and location else ("",)
    field = str(field)
    variable = ".".join([PREFIX + field.upper(), *map(str, rest)])
    if detail["type"] == "missing" and not rest:
        return Problem(variable, "is not set", Settings.model_fields[field].description or "")
    if detail["type"] == "extra_forbidden" and not rest:
        near = difflib.get_close_matches(field, Settings.model_fields, 1)
        return Problem(
            variable, "is not a setting", f"did you mean {PREFIX}{near[0].upper()}?" if near else ""
        )
    return Problem(variable, f"{detail['msg']} (is {detail['input']!r})")
