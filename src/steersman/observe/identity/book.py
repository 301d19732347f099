"""What sources said of names, as the table of names keeps it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

from steersman.kinds.entity import EntityKey
from steersman.observe.identity.evidence import Evidence, Token


class Claim(Struct):
    """What a source said of a name so far."""

    source_type: str
    at: datetime
    said: dict[str, Any]
    evidence: Evidence


class Book(Struct):
    """One type in one scope (or in scopes that are one by configuration)."""

    claims: dict[EntityKey, dict[str, Claim]] = field(default_factory=dict[EntityKey, dict[str, Claim]])
    having: dict[Token, set[EntityKey]] = field(default_factory=dict[Token, set[EntityKey]])
