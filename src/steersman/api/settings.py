"""The parts of `steersman.yaml` that the API reads."""

from __future__ import annotations

from msgspec import Struct, field

from steersman.kinds.settings import AuthSettings, ServerSettings


class ApiSettings(Struct, frozen=True):
    """Where it listens and its bounds; who may call."""

    server: ServerSettings = field(default_factory=ServerSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
