"""What `steersman.yaml` may say of a `driver: wandb` source, beside access and the keys of every source."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated

from msgspec import Meta, field

from steersman.drivers.web.access import WebAccess
from steersman.kernel.quantity import Between, Duration
from steersman.kernel.secret import Secret
from steersman.kinds.fragment import SCOPE_LABEL

NAMES_MAX = 64
RUNS_MAX = 10_000
"""What one source may follow: each page of runs counts against the rate limit of the key."""
HOUR_S = 3_600

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Names = Annotated[list[Name], Meta(max_length=NAMES_MAX)]
Kept = Annotated[Duration, Between(Duration(600), Duration(30 * 24 * HOUR_S))]
Silence = Annotated[Duration, Between(Duration(1), Duration(30 * 24 * HOUR_S))]


class WandbOptions(WebAccess, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `wandb` source, beside those of access.

    - `api_key`: the key of a user or a service account.
    - `entity`: the team or user whose projects are followed; the key's own default where it is not given.
    - `projects`: names or patterns of its projects; all of them where none is given.
    - `keep_ended`: how long a run is told after its last heartbeat.
    - `silent_after`: a running run whose last heartbeat is older gives no sign of life.
    - `runs_max`: more are not followed; those with the newest heartbeats are.
    - `metrics`: patterns of the summary metrics that are copied.
    - `job_config`: the key of a run's configuration that names the job that it is. Only where it is given is
      configuration read, and nothing else of it is kept.
    - `labels`: labels for every entity of this source.
    """

    url: Annotated[str, Meta(pattern="^https?://[^/]", max_length=2048)] = "https://api.wandb.ai"
    api_key: Secret | None = None
    entity: Name | None = None
    projects: Names = field(default_factory=list[str])
    keep_ended: Kept = Duration(HOUR_S)
    silent_after: Silence = Duration(600)
    runs_max: Annotated[int, Meta(ge=1, le=RUNS_MAX)] = 1_000
    metrics: Names = field(default_factory=lambda: ["*"])
    job_config: Name | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.api_key is not None and (self.username or self.token or self.header):
            raise ValueError("give the api_key or another way to log in, not both")
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")

    def headers(self) -> dict[str, str]:
        """The request headers that authenticate; holds secrets. A key is the password of the user "api"."""
        if self.api_key is None:
            return super().headers()
        pair = f"api:{self.api_key.reveal()}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}
