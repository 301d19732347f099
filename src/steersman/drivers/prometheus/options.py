"""What `steersman.yaml` may say of a `driver: prometheus` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from steersman.drivers.exposition import TableOptions
from steersman.kernel.quantity import Between, Duration

Window = Annotated[Duration, Between(Duration(10), Duration(3600))]
TENANT_HEADER = "X-Scope-OrgID"
"""What Mimir, Cortex, Loki's kin and Thanos' receivers read the tenant from."""


class PrometheusOptions(TableOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `prometheus` source, beside those of mapping tables and of access. `url` is what stands
    before `/api/v1`.

    - `window`: over what time rates and quantiles are taken; at least four times the scrape interval.
    - `match`: labels that every series must have; `*` at the end of a value stands for any rest.
    - `tenant`: the tenant, beside whatever else authenticates.
    """

    window: Window = Duration(300)
    match: dict[str, list[str]] = msgspec.field(default_factory=dict[str, list[str]])
    tenant: Annotated[str, Meta(pattern=r"^[0-9A-Za-z!_.*'()|-]{1,300}$")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if urlsplit(self.url).fragment:
            raise ValueError("url: the base of the API has no fragment")
        if self.tenant and (self.header or "").lower() == TENANT_HEADER.lower():
            raise ValueError("give the tenant once, as tenant")
        if self.tenant and self.follow_redirects:
            raise ValueError("follow_redirects and tenant don't go together: another host would be told it")
        if any(not label or not values for label, values in self.match.items()):
            raise ValueError("match: each label needs at least one value")

    def headers(self) -> dict[str, str]:
        """The request headers that authenticate, and the tenant's; holds secrets."""
        return {**super().headers(), **({TENANT_HEADER: self.tenant} if self.tenant else {})}
