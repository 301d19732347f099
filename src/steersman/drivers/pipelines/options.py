"""What `steersman.yaml` may say of a `driver: pipelines` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from steersman.drivers.web.access import WebAccess
from steersman.kinds.fragment import SCOPE_LABEL

Flavor = Literal["airflow", "dagster"]


class PipelinesOptions(WebAccess, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `pipelines` source, beside those of access.

    - `flavor`: which system it is. `url` is its web server (`http://airflow:8080`, `http://dagster:3000`).
    - `only`: names of pipelines (DAGs, jobs, assets as a/b); `*` at the end of one stands for any rest.
    - `tasks`: whether the tasks of each DAG's newest run are told, too (Airflow; one request for each).
    - `labels`: labels for every entity of this source.
    """

    flavor: Flavor
    only: Annotated[list[str], Meta(max_length=256)] = msgspec.field(default_factory=list[str])
    tasks: bool = True
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        super().__post_init__()
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")

    def wants(self, name: str) -> bool:
        """Whether a pipeline of that name is to be told."""
        if not self.only:
            return True
        return any(name.startswith(w[:-1]) if w.endswith("*") else name == w for w in self.only)
