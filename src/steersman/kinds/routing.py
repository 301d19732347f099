"""The state of model routing, as it is kept in memory, persisted by StateManager and shown.

These are working copies: `ModelState`, `ProviderState`, `PoolState` and `SystemState` are mutable, because
routing counts in them on every request; what is persisted is a snapshot. `LockHandle` and `SyncStatus` are
answers and are values. Names, order and defaults are those of the published interface, so positional use
works. Naive times are read as UTC.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from steersman.kernel.clock import as_utc

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]


class SyncPolicy(StrEnum):
    """When routing state is persisted."""

    IN_MEMORY = "in-memory"  # never: lost at shutdown
    SYNC_ON_BOUNDARY = "sync-on-boundary"  # loaded at start, saved at shutdown
    PERIODIC = "periodic"  # at an interval
    IMMEDIATE = "immediate"  # at each change


class ModelState(Struct):
    """Health and use of one model.

    - `status`: "active" or "standby".
    - `failure_count`: failures in a row. `error_rate`: share of failures in the sliding window, 0 to 1.
    - `cooldown_remaining`: seconds until it may be tried again, as of the snapshot it is in.
    - `quota_used` (requests), `tokens_used` and `cost_accumulated`: in the present quota period.
    - `last_request`: last success. `last_failure`: last failure.
    - `deactivation_reason`: why it is on standby: error_threshold, quota_exhausted, budget_exceeded,
      token_limit, request_limit, maintenance_window or manual.
    """

    status: str
    failure_count: Count
    error_rate: Share
    cooldown_remaining: Amount
    quota_used: Count
    tokens_used: Count
    cost_accumulated: Amount
    last_request: datetime | None = None
    last_failure: datetime | None = None
    deactivation_reason: str | None = None

    def __post_init__(self) -> None:
        self.last_request = _utc(self.last_request)
        self.last_failure = _utc(self.last_failure)


class ProviderState(Struct):
    """Health of one provider, over all its models. `availability_score` is 0 to 1."""

    available: bool
    auth_valid: bool
    last_probe: datetime | None = None
    availability_score: Share = 1.0
    active_model_count: Count = 0
    total_quota_used: Count = 0
    total_cost: Amount = 0.0

    def __post_init__(self) -> None:
        self.last_probe = _utc(self.last_probe)


class PoolState(Struct):
    """Who is in a pool, and how often it has turned to another model."""

    active_models: list[str] = field(default_factory=list[str])
    standby_models: list[str] = field(default_factory=list[str])
    rotation_count: Count = 0
    last_rotation: datetime | None = None

    def __post_init__(self) -> None:
        self.last_rotation = _utc(self.last_rotation)


class SystemState(Struct):
    """All routing state at one moment: what is saved and loaded."""

    models: dict[str, ModelState] = field(default_factory=dict[str, ModelState])
    providers: dict[str, ProviderState] = field(default_factory=dict[str, ProviderState])
    pools: dict[str, PoolState] = field(default_factory=dict[str, PoolState])
    timestamp: datetime | None = None

    def __post_init__(self) -> None:
        self.timestamp = _utc(self.timestamp)


class LockHandle(Struct, frozen=True):
    """An advisory lock that was acquired; `expires_at` is None where it does not expire by itself."""

    lock_id: str
    owner: str
    acquired_at: datetime
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "acquired_at", as_utc(self.acquired_at))
        force_setattr(self, "expires_at", _utc(self.expires_at))


class SyncStatus(Struct, frozen=True):
    """How persistence stands: last and next sync, changes not yet persisted, and who holds the lock."""

    last_sync: datetime | None = None
    next_sync: datetime | None = None
    pending_changes: Count = 0
    locked: bool = False
    lock_owner: str | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "last_sync", _utc(self.last_sync))
        force_setattr(self, "next_sync", _utc(self.next_sync))


def _utc(when: datetime | None) -> datetime | None:
    return None if when is None else as_utc(when)
