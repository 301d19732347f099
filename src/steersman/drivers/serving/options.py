"""What `steersman.yaml` may say of a `driver: serving` source, beside the keys that every source has."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from msgspec import Meta

from steersman.drivers.exposition import ExpositionOptions, Mapping, open_mapping
from steersman.drivers.web.url import check_url

Flavor = Literal["vllm", "sglang", "tgi", "triton", "ray-serve", "knative", "kserve", "torchserve", "openai"]

TABLES: dict[str, tuple[str, ...]] = {
    "vllm": ("vllm",),
    "sglang": ("sglang",),
    "tgi": ("tgi",),
    "triton": ("triton",),
    "ray-serve": ("ray-serve",),
    "knative": ("knative",),
    "kserve": ("kserve", "knative"),  # the queue proxy can join its page and the model server's
    "torchserve": ("torchserve",),
    "openai": (),
}
"""The mapping tables of each stack; `openai` has no metrics to map."""


class ServingOptions(ExpositionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a `serving` source, beside those of an endpoint and of access.

    - `flavor`: which stack it is. `url` is its page of metrics; for `openai` its API (`http://host:8000/v1`).
    - `service`: a name for it, where the name of its model is not its own (several replicas of one model).
    - `health_url`: where it says whether it is ready (status 200). Credentials go there only where scheme,
      host and port are those of `url`.
    """

    flavor: Flavor
    service: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    health_url: Annotated[str, Meta(pattern="^https?://[^/]", max_length=2048)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.health_url is not None:
            check_url(self.health_url)
        if self.service is not None and ("{" in self.service or "}" in self.service):
            raise ValueError("service: braces can't stand in it; it is a name and no template")
        tables = [open_mapping(name) for name in TABLES[self.flavor]]
        cast("dict[str, Any]", self.__dict__)["_tables"] = tables  # kept beside the fields: no key of its own

    @property
    def tables(self) -> list[Mapping]:
        """The mapping tables of its stack, read with the configuration."""
        return self.__dict__["_tables"]

    @property
    def given(self) -> dict[str, str]:
        """The variable `{@service}`, where a name was given."""
        return {"service": self.service} if self.service is not None else {}

    @property
    def health_is_near(self) -> bool:
        """Whether `health_url` is on the server of `url`, so that its credentials may go there."""
        return self.health_url is not None and _origin(self.health_url) == _origin(self.url)


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
