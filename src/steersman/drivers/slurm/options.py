"""What `steersman.yaml` may say of a `driver: slurm` source, beside the keys that every source has."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from steersman.drivers.web.access import WebAccess
from steersman.kernel.quantity import Between, ByteSize

API_VERSIONS = ("v0.0.45", "v0.0.44", "v0.0.43", "v0.0.42", "v0.0.41", "v0.0.40", "v0.0.39", "v0.0.38")
"""Versions of slurmrestd's API that this driver knows, newest first: Slurm 26.05 down to 22.05."""

AUTOMATIC_REASONS = (
    "NHC:",
    "Kill task failed",
    "gres/",
    "Low RealMemory",
    "Low CPUs",
    "Low socket",
    "Low TmpDisk",
    "Low Cores",
    "Low SocketsPerBoard",
    "Prolog error",
    "Epilog error",
    "Not responding",
    "batch job complete failure",
    "Node unexpectedly rebooted",
    "Duplicate jobid",
    "health_check",
    "HealthCheck",
)
"""How reasons begin that slurmctld, slurmd and node health checks (LBNL NHC) write: from Slurm's sources."""

Part = Literal["nodes", "jobs", "partitions", "reservations", "controller"]
Line = Annotated[str, Meta(min_length=1, max_length=128)]


class SlurmOptions(WebAccess, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The keys of a `slurm` source.

    - `url`: slurmrestd, over TCP or as `unix:/path`; empty: none. `user` with `token`: the JWT goes as
      X-SLURM-USER-NAME and X-SLURM-USER-TOKEN, a `token` alone as a bearer token.
    - `via`: by slurmrestd, by commands, or (auto) by slurmrestd where there is a url, else by commands.
    - `api`: one version of slurmrestd's API instead of the newest that both sides know.
    - `bin`: folder of Slurm's commands; empty: found by PATH. `slurm_conf`: their SLURM_CONF.
    - `output`: whether commands are asked for JSON, for text, or (auto) for JSON where they have it.
    - `watch`: what is read. `queues`: whether a queue is a partition or a QOS.
    - `automatic_reasons`: beginnings of drain reasons that a program of the site writes.
    """

    url: Annotated[
        str,
        Meta(
            pattern="^(https?://[^/]|unix:/|$)", max_length=2048, description="an http(s) URL or unix:/path"
        ),
    ] = ""
    max_bytes: Annotated[ByteSize, Between(ByteSize(1024), ByteSize(1 << 30))] = ByteSize(512 * 1024 * 1024)
    user: Annotated[str, Meta(pattern="^[A-Za-z0-9._@-]{0,64}$")] = ""
    via: Literal["auto", "rest", "commands"] = "auto"
    api: Annotated[str, Meta(pattern=r"^(auto|v0\.0\.\d{2,3})$")] = "auto"
    bin: Annotated[str, Meta(max_length=1024)] = ""
    slurm_conf: Annotated[str, Meta(max_length=1024)] = ""
    output: Literal["auto", "json", "text"] = "auto"
    watch: Annotated[list[Part], Meta(min_length=1, max_length=5)] = msgspec.field(
        default_factory=lambda: ["nodes", "jobs", "partitions", "reservations", "controller"]
    )
    queues: Literal["partition", "qos"] = "partition"
    automatic_reasons: Annotated[list[Line], Meta(max_length=64)] = msgspec.field(default_factory=list[str])

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.via == "rest" and not self.url:
            raise ValueError("via: rest needs a url")
        if self.api != "auto" and self.api not in API_VERSIONS:
            raise ValueError(f"api is auto or one of {', '.join(API_VERSIONS)}")
        if self.user and self.token is None and self.url and not self.url.startswith("unix:"):
            raise ValueError("user needs a token")
        for name, path in (("bin", self.bin), ("slurm_conf", self.slurm_conf)):
            if path and (not os.path.isabs(path) or "\0" in path):
                raise ValueError(f"{name} is an absolute path")
        if len(set(self.watch)) < len(self.watch):
            raise ValueError("watch names something twice")

    def headers(self) -> dict[str, str]:
        """The request headers that authenticate; holds secrets."""
        if self.user and self.token is not None:
            return {"X-SLURM-USER-NAME": self.user, "X-SLURM-USER-TOKEN": self.token.reveal()}
        return super().headers()

    @property
    def by_rest(self) -> bool:
        """Whether slurmrestd is what is read."""
        return bool(self.url) and self.via != "commands"

    @property
    def acts_by_commands(self) -> bool:
        """Whether Slurm's commands may change something: without a url, or where they are configured beside
        it. Those that PATH has beside a url may be another cluster's."""
        return self.via == "commands" or (
            self.via == "auto" and bool(not self.url or self.bin or self.slurm_conf)
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Beginnings of reasons that a program wrote, in lower case."""
        return tuple(reason.lower() for reason in (*AUTOMATIC_REASONS, *self.automatic_reasons))
