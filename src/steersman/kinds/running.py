"""What the acting half says of itself: how it fares, and what it was given and could not use.

Part of `GET /api/v1/status`; the client reads it back into the same types.
"""

from __future__ import annotations

from msgspec import Struct


class LeftOut(Struct, frozen=True, kw_only=True):
    """A policy or a lifecycle that is not in force. `what`: policy or lifecycle; `line` and `column` from 1,
    0 where it is the whole file; `detail` says what was expected."""

    what: str
    file: str
    detail: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if self.detail.startswith(self.file):
            return self.detail
        return f"{self.file}:{self.line or 1}: {self.detail}"


class LoopStatus(Struct, frozen=True, kw_only=True):
    """The reconcile loop. `queued` resources wait for their turn, the longest for `oldest_wait_s`; `delayed`
    are looked at when a time comes; `failing` and `stuck` are how many are so now."""

    queued: int
    in_flight: int
    delayed: int
    oldest_wait_s: float
    failing: int
    stuck: int
    shards_held: int


class AdviceStatus(Struct, frozen=True, kw_only=True):
    """What is recommended. `policies` are evaluated; `open` recommendations are not at an end; `waiting`
    proposals found no place among the open ones; `frozen`: nothing is carried out."""

    policies: int
    open: int
    waiting: int
    frozen: bool


class EventsStatus(Struct, frozen=True, kw_only=True):
    """What subscribers are told. `pending` events are taken up and not done; `behind` is how many store
    revisions the slowest has to go; `failing` subscriptions have an event that was tried and not taken."""

    subscriptions: int
    pending: int
    behind: int
    failing: int
    dead_letters: int


class ActingStatus(Struct, frozen=True, kw_only=True):
    """How the acting half fares; a part is None where this process does not run it."""

    loop: LoopStatus | None = None
    advice: AdviceStatus | None = None
    events: EventsStatus | None = None
    left_out: tuple[LeftOut, ...] = ()
