"""What the API answers, as the client reads it. Unknown members are ignored: a newer server may say more.

What is told of an entity has its nouns in `kinds.explanation`. The rest the API makes from Structs of its own
rooms, which a client must not depend on; a test holds the two sides to each other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.explanation import SourceStatus
from steersman.kinds.running import ActingStatus


class PushResult(Struct, frozen=True):
    """What became of one pushed fragment. `error` is set where it was not taken."""

    index: int
    verdict: str = ""
    error: Any = None


class PushAnswer(Struct, frozen=True):
    """What became of a push, in numbers and one by one."""

    accepted: int
    stale: int
    invalid: int
    results: tuple[PushResult, ...] = ()


class StoreStatus(Struct, frozen=True):
    """The server's store."""

    name: str
    ok: bool
    revision: int | None = None
    detail: str = ""


class TaskStatus(Struct, frozen=True):
    """A task of the server."""

    name: str
    state: str
    since_s: float = 0.0
    restarts: int = 0
    last_error: str = ""


class IntakeSource(Struct, frozen=True):
    """A configured source as it is observed. `state`: starting, up, down or stuck."""

    name: str
    driver: str = ""
    scope: str = ""
    interval_s: float = 0.0
    state: str = ""
    failures: int = 0
    observations: int = 0
    fragments: int = 0
    error_rate: float = 0.0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    last_success_at: datetime | None = None
    last_error: str = ""
    next_in_s: float = 0.0
    warnings: tuple[str, ...] = ()
    longest_block_s: float = 0.0


class Status(Struct, frozen=True):
    """The server: what runs and how it does."""

    version: str
    started_at: datetime
    now: datetime
    uptime_s: float
    ready: bool
    failed: tuple[str, ...] = ()
    store: StoreStatus = field(default_factory=lambda: StoreStatus("", ok=False))
    bus: dict[str, Any] = field(default_factory=dict[str, Any])
    tasks: tuple[TaskStatus, ...] = ()
    sources: tuple[SourceStatus, ...] = ()
    intake: tuple[IntakeSource, ...] = ()
    streams: int = 0
    tokens_required: bool = False
    dashboard_built: bool = False
    acting: ActingStatus | None = None


class WhoAmI(Struct, frozen=True):
    """The caller as the server sees them."""

    name: str
    role: str
    anonymous: bool = False
    token: str = ""


class TokenInfo(Struct, frozen=True):
    """A token without its secret."""

    id: str
    name: str
    role: str
    created_at: datetime
    prefix: str = ""
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class IssuedToken(Struct, frozen=True):
    """A token just made; `token` is its only appearance."""

    token: str
    info: TokenInfo


class Gone(Struct, frozen=True):
    """A watched entity that is no more."""

    entity_type: EntityType
    entity_id: str
    revision: int
    scope: str = ""
    deleted_at: datetime | None = None

    @property
    def key(self) -> EntityKey:
        """The entity's identity."""
        return EntityKey(self.entity_type, self.scope, self.entity_id)


class Resync(Struct, frozen=True):
    """A watch has a gap here: what changed up to `revision` must be read from the list."""

    revision: int
    reason: str = ""
