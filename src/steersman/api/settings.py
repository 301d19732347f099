"""What the operator may set about the API: the `server` and `auth` parts of `steersman.yaml`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from steersman.kernel.bounds import MIB

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7440

BODY_MAX_BYTES = 8 * MIB
"""Largest request body. Some 30,000 fragments of six fields; a larger batch is split by its sender."""
STREAMS_MAX = 2048
"""Event streams at one time, over all callers."""


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the API listens, and its bounds.

    - `host`, `port`: the address to bind. Port 0 takes a free one. An address that is not loopback needs
      `auth.tokens: true`.
    - `names`: further host names under which callers may reach an API that answers without a token (behind a
      local proxy). Loopback names and addresses are always accepted.
    - `body_max_bytes`, `streams_max`: see the constants of the same names.
    """

    host: str = DEFAULT_HOST
    port: Annotated[int, Meta(ge=0, le=65535)] = DEFAULT_PORT
    names: list[str] = field(default_factory=list[str])
    body_max_bytes: Annotated[int, Meta(ge=1024, le=1024 * MIB)] = BODY_MAX_BYTES
    streams_max: Annotated[int, Meta(ge=1, le=100_000)] = STREAMS_MAX


class AuthSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call.

    With `tokens: false` a caller on loopback needs no token; with `tokens: true` every caller does.
    """

    tokens: bool = False


class ApiSettings(Struct, frozen=True):
    """Both parts together, as the API reads them."""

    server: ServerSettings = field(default_factory=ServerSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
