"""The state of one watch across connections: where it has got to, and what it has already told.

Bytes in, changes out; no socket in here. After a cut it goes on behind the last event it saw, and what the
server sends a second time is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from steersman.client import calls
from steersman.client.errors import UNREADABLE, ApiError, ApiTooMany, ApiUnavailable, BadAnswer, NotReachable
from steersman.client.shapes import Gone, Resync
from steersman.client.sse import EventParser, ServerEvent
from steersman.kernel.errors import SteersmanError, Unavailable
from steersman.kernel.ids import Rng
from steersman.kernel.retry import Backoff
from steersman.kinds.entity import CanonicalEntity, EntityKey, EntityType

SILENCE_MAX_S = 45.0
"""Three heartbeats: a stream that is quiet for longer is dead."""
ID_MAX_CHARS = 18
"""The longest event id: a revision, within 60 bits."""
PATIENCE_S = 300.0
"""How long a watch that was cut tries to come back before it gives up."""
RECONNECT = Backoff(first_s=0.5, max_s=15.0)

Change = CanonicalEntity | Gone | Resync
"""What a watch gives: an entity's new state, the end of one, or word that changes were left out."""


class _Mark(Struct):
    revision: int
    reason: str = ""


_mark = msgspec.json.Decoder(_Mark)
_gone = msgspec.json.Decoder(Gone)


class WatchSession:
    """One watch. `after` is the revision up to which everything was told; None before the first word."""

    def __init__(self, kinds: Iterable[EntityType], after: int | None, rng: Rng) -> None:
        self._kinds = tuple(kinds)
        self.after = after
        self._rng = rng
        self._parser = EventParser()
        self._failures = 0
        self._greeted = False
        self._told: dict[EntityKey, int] = {}
        self._lost_at_s: float | None = None

    def call(self) -> calls.Call[None]:
        """The request that begins the stream, or goes on with it."""
        self._parser = EventParser()
        return calls.watch(self._kinds, self.after)

    def feed(self, chunk: bytes) -> list[Change]:
        """What these bytes tell that was not told before. Raises `BadAnswer`."""
        changes: list[Change] = []
        for event in self._parser.feed(chunk):
            change = self._read(event)
            if change is not None:
                changes.append(change)
            if event.id is not None:
                self._reach(event.id)
        if self._parser.last_id is not None:
            self._reach(self._parser.last_id)  # a heartbeat moves it on without an event
        return changes

    def cut(self, error: SteersmanError | None, now_s: float) -> float:
        """The stream ended (with `error`, or by itself): seconds to wait before `call`.

        Raises the error where trying again makes no sense: the server refuses us, it never answered at all,
        or it has been away for `PATIENCE_S`. `now_s` is monotonic time.
        """
        if error is None:
            error = NotReachable("the server ended the stream of events")
        passing = isinstance(error, Unavailable | ApiTooMany)
        if isinstance(error, ApiError) and not isinstance(error, ApiUnavailable | ApiTooMany):
            passing = False
        if self._lost_at_s is None:
            self._lost_at_s = now_s
        too_long = now_s - self._lost_at_s > PATIENCE_S
        if not passing or not self._greeted or too_long:
            raise error
        self._failures += 1
        asked_s = (self._parser.retry_ms or 0) / 1000 if self._failures == 1 else 0.0
        return max(RECONNECT.delay_s(self._failures, self._rng), min(asked_s, RECONNECT.max_s))

    def _read(self, event: ServerEvent) -> Change | None:
        try:
            if event.name == "entity":
                return self._new(calls.read_entity(event.data))
            if event.name == "gone":
                return self._new(_gone.decode(event.data))
            if event.name in ("hello", "resync"):
                mark = _mark.decode(event.data)
                self._greeted, self._failures, self._lost_at_s = True, 0, None
                if event.name == "resync":
                    self._told.clear()
                    return Resync(mark.revision, mark.reason)
        except UNREADABLE as error:
            raise BadAnswer(f"a {event.name} event of the stream can't be read: {error}") from None
        return None  # bye, and events of a newer server

    def _new(self, change: CanonicalEntity | Gone) -> CanonicalEntity | Gone | None:
        # Behind the last id the server may tell a thing twice: once before a cut and once after it.
        if change.revision <= self._told.get(change.key, -1):
            return None
        self._told[change.key] = change.revision
        return change

    def _reach(self, event_id: str) -> None:
        if not (event_id.isascii() and event_id.isdigit() and len(event_id) <= ID_MAX_CHARS):
            raise BadAnswer(f"the stream has an event id that is no revision: {event_id[:40]!r}")
        revision = int(event_id)
        if revision != self.after:
            self.after = revision
            self._told = {key: told for key, told in self._told.items() if told > revision}
