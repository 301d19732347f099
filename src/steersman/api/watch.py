"""`GET /api/v1/watch`: changes of the bus as Server-Sent Events.

Nothing is queued for a stream. Each has a place in the bus's change log and takes the next delta when its
reader has taken the last one, so a slow reader gets fewer and later states, never a backlog; one that falls
off the log is told to read again (`resync`), and one that takes nothing at all is cut. Streams with the same
filter get the same delta, and its bytes are made once for all of them.

An event id is a revision: everything up to it has been told. It stands on the last event of a delta only, so
a stream that is cut in the middle of one gets the whole delta again when it comes back.

A stream that tells of resources too has two places: one in the bus and one in the outbox, which is a store
revision. Its ids hold both, as `<bus>-<store>`. Events of resources are told one by one and none is left out,
unless it was retired before its reader came.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from steersman.api.exchange import Exchange
from steersman.api.metrics import ApiMetrics
from steersman.api.pages import UnknownKind, read_kind
from steersman.api.problems import InvalidParameter, reveal
from steersman.api.shown import shown
from steersman.api.streams import Line, Lines
from steersman.kernel.errors import Unavailable
from steersman.kernel.nearest import nearest
from steersman.kinds.entity import CanonicalEntity, EntityType
from steersman.kinds.names import RESOURCE_FORMS, kind_of, resource_kind_of
from steersman.kinds.subscription import EVERY_EVENT, EventFilter
from steersman.state.feed import Delta, EntityFilter, Subscription
from steersman.state.tail import Batch, Tail, TailReader

if TYPE_CHECKING:
    from steersman.state.bus import StateBus

HEARTBEAT_S = 15.0
"""A quiet stream says this often how far it has got: proxies keep it, and a dead reader is noticed."""
RETRY_MS = 2000
"""What a browser is told to wait before it comes back."""
ENCODED_MAX = 64
"""Deltas whose bytes are kept for other streams: as many filters as are likely to be in use at once."""

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

_PLACE = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?", re.ASCII)
_encoder = msgspec.json.Encoder()


class Hello(Struct, frozen=True):
    """First event of a stream: what follows are all changes after `revision`, and all events of resources
    after the store's `resource_revision`, where the stream tells of them."""

    revision: int
    heartbeat_s: float = HEARTBEAT_S
    resource_revision: int | UnsetType = UNSET


class Resync(Struct, frozen=True):
    """Changes were left out: read the list. The stream goes on behind `revision`."""

    revision: int
    reason: str = "history_lost"


class ResourceResync(Struct, frozen=True):
    """Events of resources were retired before they were told: read the resources. The stream goes on behind
    the store's `resource_revision`."""

    resource_revision: int
    reason: str = "history_lost"


class Bye(Struct, frozen=True):
    """Last event of a stream that this side ends; come back with the last id."""

    revision: int
    reason: str


class Gone(Struct, frozen=True):
    """An entity that is no more."""

    entity_type: EntityType
    scope: str
    entity_id: str
    revision: int
    deleted_at: str | None = None


class Place(NamedTuple):
    """How far a stream has got: in the bus, and in the outbox where it tells of resources."""

    bus: int
    store: int | None = None

    def __str__(self) -> str:
        return str(self.bus) if self.store is None else f"{self.bus}-{self.store}"


def write_event(name: str, data: bytes, place: Place | int | None = None) -> bytes:
    """One event in the wire's format. `data` is JSON, which has no line breaks."""
    head = b"" if place is None else _id_line(place)
    return b"%sevent: %s\ndata: %s\n\n" % (head, name.encode(), data)


def write_mark(place: Place) -> bytes:
    """A heartbeat: moves the reader's last id on without an event."""
    return b": still here\n%s\n" % _id_line(place)


def _id_line(place: Place | int) -> bytes:
    return b"id: %s\n" % str(place).encode()


def write_batch(batch: Batch, bus: int) -> bytes:
    """Events of resources, each with the place that it completes; `bus` is how far that was told."""
    parts: list[bytes] = []
    if batch.lost:
        parts.append(write_event("resource_resync", _encoder.encode(ResourceResync(batch.revision))))
    last = len(batch.events) - 1
    for position, told in enumerate(batch.events):
        reached = batch.revision if position == last else told.revision
        parts.append(write_event("resource", told.value, Place(bus, reached)))
    if last < 0:
        parts.append(write_mark(Place(bus, batch.revision)))
    return b"".join(parts)


def write_delta(delta: Delta) -> bytes:
    """A delta as events: `entity` with its whole state, `gone` for a tombstone, or `resync`."""
    if delta.resync:
        return write_event("resync", _encoder.encode(Resync(delta.revision)), delta.revision)
    last = len(delta.entities) - 1
    return b"".join(
        _write_change(entity, delta.revision if position == last else None)
        for position, entity in enumerate(delta.entities)
    )


def _write_change(entity: CanonicalEntity, revision: int | None) -> bytes:
    if entity.deleted_at is None:
        return write_event("entity", _encoder.encode(shown(entity)), revision)
    deleted_at = entity.deleted_at.isoformat()
    gone = Gone(entity.entity_type, entity.scope, entity.entity_id, entity.revision, deleted_at)
    return write_event("gone", _encoder.encode(gone), revision)


class Deltas:
    """Bytes of the latest deltas: made once, for all streams that get the same delta."""

    def __init__(self, metrics: ApiMetrics) -> None:
        self._metrics = metrics
        self._encoded: OrderedDict[int, tuple[Delta, bytes]] = OrderedDict()

    def encoded(self, delta: Delta, store: int | None = None) -> bytes:
        """The delta as events; `store` is the other place of a stream that has two."""
        # The feed hands the same object to all who ask for the same: the entry keeps it alive, so that its id
        # is not given to another one.
        entry = self._encoded.get(id(delta))
        if entry is None:
            data = write_delta(delta)
            self._metrics.events.inc(max(1, len(delta.entities)))
            entry = self._encoded[id(delta)] = (delta, data)
            if len(self._encoded) > ENCODED_MAX:
                self._encoded.popitem(last=False)
        data = entry[1]
        if store is None:
            return data
        # The one id stands on the last event; JSON holds no line break, so its line is the last of its kind.
        line = _id_line(delta.revision)
        start = data.rindex(line)
        return b"%s%s%s" % (data[:start], _id_line(Place(delta.revision, store)), data[start + len(line) :])


class News:
    """What one stream has to tell next: of the bus, and of the outbox where `resources` is given."""

    def __init__(
        self, bus: StateBus, subscription: Subscription, tail: Tail | None, resources: TailReader | None
    ) -> None:
        self._bus = bus
        self._subscription = subscription
        self._resources = resources
        self._bell = asyncio.Event()
        self._ends = [bus.feed.listen(self._bell.set)]
        if tail is not None and resources is not None:
            self._ends.append(tail.listen(self._bell.set))
        self._bus_next = False

    @property
    def place(self) -> Place:
        """How far it has got."""
        return Place(
            self._subscription.revision, None if self._resources is None else self._resources.revision
        )

    async def next(self) -> Delta | Batch:
        """The next delta or batch; waits for it. Both sides take turns, and neither holds up the other."""
        while True:
            self._bell.clear()
            self._bus_next = not self._bus_next
            told = self._resources
            if told is not None and told.behind and not (self._bus_next and self._subscription.behind):
                batch = await told.step()
                if batch is not None:
                    return batch
            elif self._subscription.behind:
                delta = self._subscription.step()
                if delta is not None:
                    return delta
                await self._bus.feed.breathe()
            else:
                await self._bell.wait()

    def close(self) -> None:
        """Listen no more."""
        for end in self._ends:
            end()


async def serve_watch(
    exchange: Exchange,
    bus: StateBus,
    deltas: Deltas,
    lines: Lines,
    metrics: ApiMetrics,
    tail: Callable[[], Tail | None] = lambda: None,
) -> None:
    """Answer one `GET /api/v1/watch`: hello, what changed since, then changes as they come."""
    types, wanted = read_watched(exchange.values("kinds"), exchange.values("resources"))
    after = _read_after(exchange)
    outbox = tail() if wanted is not None else None
    async with lines.open(exchange) as line:
        with bus.subscribe(EntityFilter(types=types), None if after is None else after.bus) as subscription:
            reader = None
            if outbox is not None:
                await line.wait(outbox.ready, HEARTBEAT_S)
                if not outbox.loaded:
                    raise Unavailable("the outbox can't be read now; come back in a while")
                reader = outbox.open(None if after is None else after.store, wanted or EVERY_EVENT)
            news = News(bus, subscription, outbox, reader)
            try:
                await exchange.start(200, STREAM_HEADERS)
                await _tell(line, news, deltas, metrics)
            finally:
                news.close()


async def _tell(line: Line, news: News, deltas: Deltas, metrics: ApiMetrics) -> None:
    """Send what there is, until the reader has gone or this side ends."""
    begin = news.place
    resource_revision = UNSET if begin.store is None else begin.store
    hello = Hello(begin.bus, resource_revision=resource_revision)
    await line.send(b"retry: %d\n\n" % RETRY_MS + write_event("hello", _encoder.encode(hello), begin))
    while True:
        told = news.place
        change = await line.wait(news.next, HEARTBEAT_S)
        if isinstance(change, Batch):
            if change.lost:
                metrics.resyncs.inc()
            metrics.events.inc(max(1, len(change.events)))
            await line.send(write_batch(change, told.bus))
        elif change is not None:
            if change.resync:
                metrics.resyncs.inc()
            await line.send(deltas.encoded(change, told.store))
        elif line.ending:
            bye = write_event("bye", _encoder.encode(Bye(told.bus, line.ending)), told)
            await line.send(bye, more=False)
            return
        else:
            await line.send(write_mark(news.place))


def read_watched(
    kinds: list[str], resources: list[str]
) -> tuple[frozenset[EntityType] | None, EventFilter | None]:
    """Which entities and which events of resources a stream tells of; None is all entities, or no events.

    `kinds` names entity types and kinds of resources in one list, a word that is both means both; without it
    all are meant; `none` is none. `resources` counts before it for resources: kinds, `all` or `none`.
    Raises `UnknownKind`.
    """
    words = [word for value in kinds for word in value.split(",") if word]
    types = frozenset(kind for word in words if (kind := kind_of(word)) is not None)
    named = frozenset(name for word in words if (name := resource_kind_of(word)) is not None)
    for word in words:
        if word != "none" and kind_of(word) is None and resource_kind_of(word) is None:
            read_kind(word)  # raises, with the nearest
    wanted = EventFilter(kinds=named) if named or not words else None
    asked = [word for value in resources for word in value.split(",") if word]
    if "none" in asked:
        wanted = None
    elif asked:
        wanted = EVERY_EVENT if "all" in asked else EventFilter(kinds=frozenset(map(_resource_kind, asked)))
    return (types if words else None), wanted


def _resource_kind(word: str) -> str:
    kind = resource_kind_of(word)
    if kind is None:
        allowed = list(RESOURCE_FORMS)
        near = nearest(word.lower(), allowed)
        hint = f"; did you mean {near}?" if near else ""
        raise UnknownKind(
            f"there is no kind of resource {reveal(word)!r}{hint}", nearest=near, allowed=allowed
        )
    return kind


def _read_after(exchange: Exchange) -> Place | None:
    """The place to go on after; `Last-Event-ID` is what a browser sends, and is newer than the URL."""
    for text in (exchange.headers.get("last-event-id"), exchange.value("after")):
        if text is None:
            continue
        if _PLACE.fullmatch(text) is None:
            raise InvalidParameter(f"after is {reveal(text)!r}; expected a revision, as the event ids are")
        bus, _, store = text.partition("-")
        return Place(int(bus), int(store) if store else None)
    return None
