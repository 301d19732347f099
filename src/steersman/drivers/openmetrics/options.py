"""What `steersman.yaml` may say of a `driver: openmetrics` source, beside the keys that every source has."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from steersman.drivers.openmetrics.mapping import Mapping, open_mapping
from steersman.drivers.weburl import check_url, public_url
from steersman.kernel.quantity import Between, ByteSize
from steersman.kernel.secret import Secret
from steersman.kinds.fragment import SCOPE_LABEL

HeaderName = Annotated[str, Meta(pattern="^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$", description="a header name")]


class OpenMetricsOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The keys of an `openmetrics` source.

    - `url`: the endpoint. User and password in it are taken as basic authentication and shown nowhere.
    - `mappings`: shipped mappings by name, or paths of YAML files. `mapping`: one written in place.
    - `variables`: more variables for the mappings' templates, e.g. `{service: my-model}` for `{@service}`.
    - `labels`: labels for every entity of this source.
    - `username` with `password`: basic authentication. `token`: a bearer token. `header` with `header_value`:
      any other. At most one of the three.
    - `max_bytes`: a larger page (decompressed) is refused.
    - `follow_redirects`, `verify_tls`: as usual; credentials are never sent on to another host.

    Mapping files are read here, when the configuration is, so that a mistake in one is a mistake in the
    configuration, and a driver is made without reading files.
    """

    url: Annotated[str, Meta(pattern="^https?://[^/]", max_length=2048, description="an http(s) URL")]
    mappings: Annotated[list[str], Meta(max_length=32)] = msgspec.field(default_factory=list[str])
    mapping: Mapping | None = None
    variables: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    header: HeaderName | None = None
    header_value: Secret | None = None
    max_bytes: Annotated[ByteSize, Between(ByteSize(1024), ByteSize(1 << 30))] = ByteSize(64 * 1024 * 1024)
    follow_redirects: bool = False
    verify_tls: bool = True

    def __post_init__(self) -> None:
        check_url(self.url)
        tables = [open_mapping(name) for name in self.mappings]
        tables += [self.mapping] if self.mapping is not None else []
        cast("dict[str, Any]", self.__dict__)["_tables"] = tables  # kept beside the fields: no key of its own
        names = [table.name for table in tables]
        if len(set(names)) < len(names):
            raise ValueError("two mappings have one name")
        if SCOPE_LABEL in self.labels:
            raise ValueError(f"the label {SCOPE_LABEL} is the scope: give it as scope")
        if not tables:
            raise ValueError("a source needs mappings (names or files) or a mapping of its own")
        ways = [self.username or self.password, self.token, self.header or self.header_value]
        if sum(1 for way in ways if way) > 1:
            raise ValueError("give one of username and password, token, or header and header_value")
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password go together")
        if ":" in (self.username or ""):
            raise ValueError("a username must not hold a colon: basic authentication ends it there")
        if bool(self.header) != (self.header_value is not None):
            raise ValueError("header and header_value go together")
        if "@" in urlsplit(self.url).netloc and any(ways):
            raise ValueError("the url has a user already; give credentials once")
        if self.follow_redirects and self.header:
            raise ValueError(
                "follow_redirects and header don't go together: another host would get its value"
            )
        if any("\n" in text or "\r" in text for text in self.headers().values()):
            raise ValueError("a credential must not hold a line break")

    @property
    def tables(self) -> list[Mapping]:
        """All mappings of this source."""
        return self.__dict__["_tables"]

    def headers(self) -> dict[str, str]:
        """The request headers that authenticate; holds secrets."""
        if self.username and self.password is not None:
            pair = f"{self.username}:{self.password.reveal()}".encode()
            return {"Authorization": f"Basic {b64encode(pair).decode()}"}
        if self.token is not None:
            return {"Authorization": f"Bearer {self.token.reveal()}"}
        if self.header is not None and self.header_value is not None:
            return {self.header: self.header_value.reveal()}
        return {}

    def __repr__(self) -> str:
        return f"OpenMetricsOptions(url={self.place!r})"

    @property
    def place(self) -> str:
        """The URL as it may be shown: without user, password, query and fragment."""
        return public_url(self.url)

    @property
    def instance(self) -> str:
        """Host and port, as Prometheus writes its `instance` label."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return host if parts.port else f"{host}:{443 if parts.scheme == 'https' else 80}"
