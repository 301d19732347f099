"""The state of one watch across connections: where it has got to, and what it has already told.

Bytes in, changes out; no socket in here. After a cut it goes on behind the last event it saw, and what the
server sends a second time is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct

from steersman.client import calls
from steersman.client.errors import UNREADABLE, ApiError, ApiTooMany, ApiUnavailable, BadAnswer, NotReachable
from steersman.client.shapes import Gone, Resync
from steersman.client.sse import EventParser, ServerEvent
from steersman.kernel.errors import SteersmanError, Unavailable
from steersman.kernel.ids import Rng
from steersman.kernel.retry import Backoff
from steersman.kinds.command import ResourceEvent
from steersman.kinds.entity import CanonicalEntity, EntityKey, EntityType

SILENCE_MAX_S = 45.0
"""Three heartbeats: a stream that is quiet for longer is dead."""
ID_MAX_CHARS = 18
"""The longest event id: a revision, within 60 bits."""
PATIENCE_S = 300.0
"""How long a watch that was cut tries to come back before it gives up."""
RECONNECT = Backoff(first_s=0.5, max_s=15.0)

PLACE = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?", re.ASCII)
"""An event id of a stream that tells of resources: a revision of the bus, and one of the store."""

T = TypeVar("T")

Told = ResourceEvent | Resync
"""What a watch of resources gives: an event, or word that events were left out."""
Change = CanonicalEntity | Gone | Resync
"""What a watch gives: an entity's new state, the end of one, or word that changes were left out."""


class _Lost(Struct):
    resource_revision: int
    reason: str = ""


class _Mark(Struct):
    revision: int
    reason: str = ""


_mark = msgspec.json.Decoder(_Mark)
_gone = msgspec.json.Decoder(Gone)
_event = msgspec.json.Decoder(ResourceEvent)
_lost = msgspec.json.Decoder(_Lost)


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
        return list(self._each(chunk, self._read))

    def _each(self, chunk: bytes, read: Callable[[ServerEvent], T | None]) -> Iterator[T]:
        """What `read` makes of each event; the place moves on with them."""
        for event in self._parser.feed(chunk):
            change = read(event)
            if change is not None:
                yield change
            if event.id is not None:
                self._reach(event.id)
        if self._parser.last_id is not None:
            self._reach(self._parser.last_id)  # a heartbeat moves it on without an event

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
                self._greet()
                if event.name == "resync":
                    self._told.clear()
                    return Resync(mark.revision, mark.reason)
        except UNREADABLE as error:
            raise BadAnswer(f"a {event.name} event of the stream can't be read: {error}") from None
        return None  # bye, and events of a newer server

    def _greet(self) -> None:
        self._greeted, self._failures, self._lost_at_s = True, 0, None

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


class ResourceWatch(WatchSession):
    """One watch of events of resources. `place` is the id of the last event; a `Resync` of it says that the
    resources must be read. No event is given twice: each carries the id of its own place."""

    def __init__(self, kinds: Iterable[str], after: str | None, rng: Rng) -> None:
        super().__init__((), None, rng)
        self._resources = tuple(kinds)
        self.place = after

    def call(self) -> calls.Call[None]:
        self._parser = EventParser()
        return calls.watch_resources(self._resources, self.place)

    def feed_events(self, chunk: bytes) -> list[Told]:
        """The events that these bytes hold. Raises `BadAnswer`."""
        return list(self._each(chunk, self._read_event))

    def _read_event(self, event: ServerEvent) -> Told | None:
        try:
            if event.name == "resource":
                return _event.decode(event.data)
            if event.name == "hello":
                self._greet()
            if event.name == "resource_resync":
                lost = _lost.decode(event.data)
                return Resync(lost.resource_revision, lost.reason)
        except UNREADABLE as error:
            raise BadAnswer(f"a {event.name} event of the stream can't be read: {error}") from None
        return None

    def _reach(self, event_id: str) -> None:
        if PLACE.fullmatch(event_id) is None:
            raise BadAnswer(f"the stream has an event id that is no place: {event_id[:40]!r}")
        self.place = event_id
