"""The four axes of a managed thing, kept apart: they are never multiplied into one enumeration.

1. its *lifecycle state* (`status`, a word of its lifecycle table);
2. what is being done to it: an `Operation` in an `OperationPhase`;
3. what is true of it: `Condition`s, each with its source and time;
4. who holds it: `Hold`s, named and owned.

"May it take work?" is not a fifth axis: `kinds.work.may_take_work` derives it from the four and says why.
All structs here are values; a resource's state is changed by putting a new one in place of an old one.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from steersman.kernel.clock import as_utc

CONDITIONS_MAX = 64
"""Conditions that one resource may carry."""
HOLDS_MAX = 64
"""Holds that one resource may carry."""


class Truth(StrEnum):
    """Whether something holds. Not knowing is an answer of its own: never false, never zero."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


class OperationPhase(StrEnum):
    """How far the work on a resource is."""

    IDLE = "idle"  # nothing is being done
    RUNNING = "running"  # an engine works on it
    WAITING = "waiting"  # it waits for a signal, a time or an outside system; the operation says for what
    HELD = "held"  # a person or a guardrail stopped it; it goes on when released
    FAILED = "failed"  # it ended badly and nobody has decided what next


class Operation(Struct, frozen=True, kw_only=True):
    """What is being done to a resource now.

    `epoch` and `attempt` tell a late answer of an earlier try from the present one. `waiting_for` and
    `waiting_until` are there while it waits.
    """

    id: str
    kind: str
    phase: OperationPhase = OperationPhase.RUNNING
    lifecycle_phase: str | None = None
    step: str | None = None
    epoch: Annotated[int, Meta(ge=0)] = 0
    attempt: Annotated[int, Meta(ge=1)] = 1
    started_at: datetime
    deadline: datetime | None = None
    waiting_for: str | None = None
    waiting_until: datetime | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        for name in ("started_at", "deadline", "waiting_until"):
            when: datetime | None = getattr(self, name)
            if when is not None:
                force_setattr(self, name, as_utc(when))


class Condition(Struct, frozen=True, kw_only=True):
    """Something that is true of a resource, or not, or not known: health, reachable, drained, ...

    `source` says who found it and `observed_at` when; `changed_at` is when `status` last changed.
    `generation` is the intent that it was judged against, 0 where that does not matter.
    """

    type: str
    status: Truth
    source: str
    observed_at: datetime
    changed_at: datetime | None = None
    reason: str = ""
    message: str = ""
    generation: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        observed_at = as_utc(self.observed_at)
        force_setattr(self, "observed_at", observed_at)
        changed_at = observed_at if self.changed_at is None else as_utc(self.changed_at)
        force_setattr(self, "changed_at", changed_at)


class Hold(Struct, frozen=True, kw_only=True):
    """Somebody's claim that nothing else may be done to a resource until they let go.

    A hold is lifted only by its owner, by an override on record, or at `expires_at`.
    """

    name: str
    owner: str
    placed_at: datetime
    reason: str = ""
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "placed_at", as_utc(self.placed_at))
        if self.expires_at is not None:
            force_setattr(self, "expires_at", as_utc(self.expires_at))

    def is_alive(self, now: datetime) -> bool:
        """Whether it still counts; at `expires_at` it no longer does."""
        return self.expires_at is None or as_utc(now) < self.expires_at
